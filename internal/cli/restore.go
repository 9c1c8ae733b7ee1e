package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) restore() *cobra.Command {
	o := region.RestoreOptions{}
	c := &cobra.Command{Use: "restore FILE", Short: "Bring the cloud back to what a backup or a periodic snapshot holds",
		Long: "Fill the data directory from a backup, or from one of the hourly snapshots in its directory snapshots. The cloud must be stopped.\n" +
			"A directory that holds a cloud already is refused; with --replace its store is put aside and nothing else is removed.",
		Args: oneFile("strata restore FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("restoring a cloud needs root: try sudo strata restore")
			}
			if pid, ok := a.running(); ok {
				return fmt.Errorf("the cloud in %s is running (pid %d): stop it with %s down, or restore into another directory with --data-dir", a.dataDir, pid, a.self())
			}
			o.File, o.DataDir = args[0], a.dataDir
			o.Progress = func(s string) { a.progress("%s", s) }
			done, err := region.Restore(cmd.Context(), o)
			if err != nil {
				return err
			}
			a.restored(done)
			if a.output == "json" {
				return a.show(map[string]any{"data_dir": a.dataDir, "replaced": done.Aside, "missing_images": done.Missing, "kept_clusters": done.Kept})
			}
			return nil
		}}
	c.Flags().BoolVar(&o.Replace, "replace", false, "put the store that is in the directory aside")
	return c
}

func (a *app) restored(done *region.Restored) {
	if len(done.Missing) > 0 {
		a.progress("%d files of images are not in %s: copy them there before servers are made from these images", len(done.Missing), a.path("images"))
	}
	for _, id := range done.Kept {
		a.progress("the control plane of cluster %s is here with its state, which is newer: it stays", id)
	}
	if done.Manifest == nil {
		a.progress("the file was a snapshot of the store alone: clouds.yaml, certificates and policy.yaml are as they were")
	}
	a.progress("restored; start the cloud with %s up --detach", a.self())
}
