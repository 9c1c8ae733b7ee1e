package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) clusterReset() *cobra.Command {
	var yes bool
	var from string
	c := &cobra.Command{Use: "cluster-reset", Short: "Make this machine the only control member, when the majority is lost", Args: cobra.NoArgs,
		Long: "Make this machine the only member of the cloud's control plane. This is for the case that most members are lost for good: as long as they\n" +
			"can be started again, start them instead.\n\n" +
			"What others have acknowledged and this member has not heard of is lost. The other members must never be started again as they are, or there\n" +
			"would be two clouds: run strata reset on each, then take it out with strata node remove and have it join anew. Servers that are on them\n" +
			"can be evacuated before.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("changing the control plane needs root: try sudo strata cluster-reset")
			}
			if pid, ok := a.running(); ok {
				return fmt.Errorf("this member is running (pid %d): stop it with %s down", pid, a.self())
			}
			if !yes && !a.confirm(cmd, fmt.Sprintf("Make %s the only control member? The others must never be started again as they are. Type yes: ", a.dataDir)) {
				return usageError{fmt.Errorf("nothing was changed; --yes goes on without asking")}
			}
			err := region.ClusterReset(cmd.Context(), region.Config{DataDir: a.dataDir}, from, func(s string) { a.progress("%s", s) })
			if err == nil {
				a.progress("this is the only control member now: start it as before, with %s up; run strata reset on the others", a.self())
			}
			return err
		}}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().StringVar(&from, "from", "", "take the store from a backup or snapshot, rather than what this member has; its own is put aside")
	return c
}
