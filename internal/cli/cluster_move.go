package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/region"
)

func (a *app) clusterMove() *cobra.Command {
	var m cluster.Moving
	c := &cobra.Command{Use: "move CLUSTER", Short: "Bring a cluster's control plane to another control member", Args: oneCluster("move"),
		Long: "Bring the control plane of a cluster, of any project, to another control member of the cloud. Run it on a control member.\n" +
			"All that the cluster knows goes with it. Its API is away meanwhile, and has another address afterwards; what runs in the cluster goes on.\n" +
			"When the member that has it is lost, --copy has it begin with its newest copy. Copies are made every five minutes: what was changed since is not in it.",
		Example: "  strata cluster move one --to node-2\n  strata cluster move one --copy",
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			a.progress("moving the control plane of cluster %s", args[0])
			out, err := region.NewAdmin(a.dataDir).MoveCluster(cmd.Context(), args[0], m)
			if err != nil {
				return a.explain(err)
			}
			a.progress("it works on %s (%s)", out.To, took(start))
			t := table{}
			t.add("cluster", out.Cluster)
			t.add("from", out.From)
			t.add("to", out.To)
			t.add("API", "https://"+out.Address)
			t.add("state of", out.Copy.Local().Format(time.RFC1123))
			t.add("kubeconfig", "strata cluster kubeconfig "+out.Cluster+" writes one with the new address")
			return a.show(out, t)
		}}
	c.Flags().StringVar(&m.To, "to", "", "the control member that is to have it (default: that with the fewest)")
	c.Flags().BoolVar(&m.Copy, "copy", false, "begin with the newest copy, whatever has happened since: for when the member that has it is lost")
	return c
}
