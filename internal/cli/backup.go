package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) backup() *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Write the state of the cloud to a file",
		Long: "Write the state of the cloud to a file, while it runs or when it is stopped: every record of the store, credentials, certificates and policy overrides, and the state of\n" +
			"each Kubernetes cluster: as it is if its control plane is on this machine and runs, else as its newest copy here has it.\n" +
			"Images' data, servers' disks, volumes and their backups are not in it: copy the directories images, instances, volumes and backups of the data directory for these.\nThe file holds passwords and keys: keep it safe.",
		Args: oneFile("strata backup FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			var from region.Snapshotter = region.NewAdmin(a.dataDir)
			if _, ok := a.running(); !ok {
				from = region.Stopped{DataDir: a.dataDir, Log: logger(false)}
			}
			m, err := region.Backup(cmd.Context(), a.dataDir, args[0], Version, from)
			if err != nil {
				return err
			}
			a.progress("wrote %s (%s, %s)", args[0], bytesText(m.Size), took(start))
			for id, why := range m.Without {
				a.progress("the state of cluster %s is not in it: %s", id, why)
			}
			if len(m.Images) > 0 {
				var sum int64
				for _, n := range m.Images {
					sum += n
				}
				a.progress("the data of images is not in it: copy %s as well (%d files, %s)", a.path("images"), len(m.Images), bytesText(sum))
			}
			if a.output == "json" {
				return a.show(map[string]any{"file": args[0], "size": m.Size, "manifest": m})
			}
			return nil
		}}
}

func oneFile(usage string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("name one file: %s", usage)}
		}
		return nil
	}
}
