package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) reset() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "reset", Short: "Remove the cloud and everything in it from this machine", Args: cobra.NoArgs,
		Long: "Stop the cloud and remove its servers, volumes, images, networks and files from this machine. There is no way back but a backup.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("removing a cloud needs root: try sudo strata reset")
			}
			if !yes && !a.confirm(cmd, fmt.Sprintf("Remove the cloud in %s with all its servers and data? Type yes: ", a.dataDir)) {
				return usageError{fmt.Errorf("nothing was removed; --yes removes without asking")}
			}
			if pid, ok := a.running(); ok {
				if err := a.stop(cmd.Context(), pid); err != nil {
					return err
				}
			}
			err := region.Reset(cmd.Context(), region.Config{DataDir: a.dataDir}, func(s string) { a.progress("%s", s) })
			if err == nil {
				a.progress("nothing of the cloud is left on this machine")
			}
			return err
		}}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) confirm(cmd *cobra.Command, question string) bool {
	fmt.Fprint(a.errs, question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	return err == nil && strings.TrimSpace(line) == "yes"
}
