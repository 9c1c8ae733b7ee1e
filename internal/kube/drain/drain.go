// Package drain empties nodes of a cluster: no new pods come to a node, and those that it has
// are asked to go by the eviction API, which disruption budgets may refuse for a while.
//
// What stays is what comes back to the node at once (pods of daemon sets), what kubelet has
// from files (mirror pods), and what has ended.
//
// Source: Kubernetes, "Safely Drain a Node", "API-initiated Eviction".
package drain

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// again is how often a pod that may not go yet is asked again, and looked at.
const again = time.Second

// Pod is a pod as draining reads it.
type Pod struct {
	Metadata struct {
		Name, Namespace, UID string
		Annotations          map[string]string
		OwnerReferences      []struct {
			Kind, APIVersion string
			Controller       bool
		}
	}
	Status struct{ Phase string }
}

func (p *Pod) String() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// Stays tells whether a pod stays on a node that is drained.
func (p *Pod) Stays() bool {
	if _, mirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]; mirror {
		return true
	}
	for _, o := range p.Metadata.OwnerReferences {
		if o.Controller && o.Kind == "DaemonSet" && strings.HasPrefix(o.APIVersion, "apps/") {
			return true
		}
	}
	return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
}

// Cordon has a node take no new pods; Uncordon has it take them again. A node that is not
// there is fine.
func Cordon(ctx context.Context, api *kubeapi.Client, node string) error {
	return schedulable(ctx, api, node, false)
}

// Uncordon is the contrary of Cordon.
func Uncordon(ctx context.Context, api *kubeapi.Client, node string) error {
	return schedulable(ctx, api, node, true)
}

func schedulable(ctx context.Context, api *kubeapi.Client, node string, yes bool) error {
	var value any = true
	if yes {
		value = nil
	}
	err := api.Merge(ctx, kubeapi.Nodes, "", node, "", map[string]any{"spec": map[string]any{"unschedulable": value}})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Pods are those of a node that draining has go.
func Pods(ctx context.Context, api *kubeapi.Client, node string) ([]Pod, error) {
	var list struct{ Items []Pod }
	if err := api.Read(ctx, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+node), &list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p Pod) bool { return p.Stays() }), nil
}

// Node drains a node: it is cordoned, its pods are evicted, and they are waited for until
// ctx ends. The error of one that is not empty by then says which pods are left, and why.
func Node(ctx context.Context, api *kubeapi.Client, node string) error {
	if err := Cordon(ctx, api, node); err != nil {
		return fmt.Errorf("cordoning node %s: %w", node, err)
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	asked := map[string]bool{}
	var left error
	for {
		pods, err := Pods(ctx, api, node)
		switch {
		case err != nil && ctx.Err() == nil && !errs.Is(err, errs.Unavailable):
			return fmt.Errorf("listing the pods of node %s: %w", node, err)
		case err == nil && len(pods) == 0:
			return nil
		case err == nil:
			left = evict(ctx, api, pods, asked)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("draining node %s: %w", node, context.Cause(ctx)), left)
		}
	}
}

// evict asks pods to go that have not agreed yet, and tells which are still there.
func evict(ctx context.Context, api *kubeapi.Client, pods []Pod, asked map[string]bool) (left error) {
	for i := range pods {
		p := &pods[i]
		why := errors.New("it ends")
		if !asked[p.Metadata.UID] {
			switch err := Evict(ctx, api, p); {
			case ctx.Err() != nil:
				return left // what was said before is of more use
			case err != nil:
				why = err
			default:
				asked[p.Metadata.UID] = true
			}
		}
		left = errors.Join(left, fmt.Errorf("pod %s: %w", p, why))
	}
	return left
}

// Evict asks a pod to go. The error's kind is TooMany when a disruption budget does not let it
// now. One that is gone is fine, and one that has another's name by now stays.
func Evict(ctx context.Context, api *kubeapi.Client, p *Pod) error {
	err := api.Create(ctx, kubeapi.Pods, p.Metadata.Namespace, p.Metadata.Name, "eviction", map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata":      map[string]string{"name": p.Metadata.Name, "namespace": p.Metadata.Namespace},
		"deleteOptions": map[string]any{"preconditions": map[string]string{"uid": p.Metadata.UID}},
	})
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
		return nil
	}
	return err
}
