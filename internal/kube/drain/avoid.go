package drain

import (
	"context"
	"net/url"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Outdated is the taint of nodes that are about to be replaced.
const Outdated = "strata.cloud/outdated"

type taint = map[string]any

// Avoid has new pods go to other nodes, as far as there is room: what is evicted from one node
// that goes is not to come to the next one. A node that is not there is fine.
//
// Source: Cluster API, the taint node.cluster.x-k8s.io/outdated-revision.
func Avoid(ctx context.Context, api *kubeapi.Client, node string) error {
	for {
		var n struct {
			Metadata struct{ ResourceVersion string }
			Spec     struct{ Taints []taint }
		}
		err := api.Read(ctx, "/api/v1/nodes/"+url.PathEscape(node), &n)
		switch {
		case errs.Is(err, errs.NotFound):
			return nil
		case err != nil:
			return err
		case slices.ContainsFunc(n.Spec.Taints, func(t taint) bool { return t["key"] == Outdated }):
			return nil
		}
		taints := append(n.Spec.Taints, taint{"key": Outdated, "effect": "PreferNoSchedule"})
		err = api.Merge(ctx, kubeapi.Nodes, "", node, "", map[string]any{"metadata": map[string]any{"resourceVersion": n.Metadata.ResourceVersion}, "spec": map[string]any{"taints": taints}})
		if !errs.Is(err, errs.Conflict) { // with what somebody else has written meanwhile
			return err
		}
	}
}
