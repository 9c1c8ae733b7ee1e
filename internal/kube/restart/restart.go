// Package restart tells when a node of a cluster works again whose programs are started anew,
// so that the next one's turn has come: its kubelet has told of itself since, and the pods that
// had clients have them again.
//
// What a cluster says of a node is no sign by itself: it says ready for most of a minute of a
// kubelet that does not come back.
package restart

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// again is how often a node is looked at.
const again = time.Second

// Node is a node before its programs are started anew.
type Node struct {
	api   *kubeapi.Client
	name  string
	heard string          // when its kubelet last told of itself
	ready map[string]bool // uids of the pods that were ready
}

type condition struct{ Type, Status, LastHeartbeatTime string }

type pod struct {
	Metadata struct{ Name, Namespace, UID, DeletionTimestamp string }
	Status   struct {
		Phase      string
		Conditions []condition
	}
}

// Look remembers how a node is.
func Look(ctx context.Context, api *kubeapi.Client, node string) (*Node, error) {
	n := &Node{api: api, name: node, ready: map[string]bool{}}
	heard, _, err := n.condition(ctx)
	if err != nil {
		return nil, err
	}
	n.heard = heard
	pods, err := n.pods(ctx)
	for _, p := range pods {
		n.ready[p.Metadata.UID] = ready(p.Status.Conditions)
	}
	return n, err
}

// Await waits until the node works again. The error says what does not.
func (n *Node) Await(ctx context.Context) error {
	missing := "its kubelet is not heard of"
	err := wait.Until(ctx, "node "+n.name, again, func(ctx context.Context) (bool, error) {
		why, err := n.missing(ctx)
		if err == nil {
			missing = why
		}
		return err == nil && why == "", nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, missing)
	}
	return nil
}

// missing is what is not as it was; "": all is.
func (n *Node) missing(ctx context.Context) (string, error) {
	heard, ok, err := n.condition(ctx)
	switch {
	case errs.Is(err, errs.NotFound):
		return "", nil // nobody waits for a node that is gone
	case err != nil:
		return "", err
	case heard == n.heard:
		return "its kubelet has not told of itself since", nil
	case !ok:
		return "it is not ready", nil
	}
	pods, err := n.pods(ctx)
	if err != nil {
		return "", err
	}
	var left []string
	for _, p := range pods {
		if n.ready[p.Metadata.UID] && p.Metadata.DeletionTimestamp == "" && p.Status.Phase == "Running" && !ready(p.Status.Conditions) {
			left = append(left, p.Metadata.Namespace+"/"+p.Metadata.Name)
		}
	}
	if len(left) > 0 {
		return "pods are not ready that were: " + strings.Join(left, ", "), nil
	}
	return "", nil
}

// condition is when kubelet last told whether the node is ready, and what.
func (n *Node) condition(ctx context.Context) (heard string, ok bool, err error) {
	var x struct {
		Status struct{ Conditions []condition }
	}
	if err := n.api.Get(ctx, kubeapi.Nodes, "", n.name, &x); err != nil {
		return "", false, err
	}
	for _, c := range x.Status.Conditions {
		if c.Type == "Ready" {
			heard = c.LastHeartbeatTime
		}
	}
	return heard, ready(x.Status.Conditions), nil
}

func (n *Node) pods(ctx context.Context) ([]pod, error) {
	var list struct{ Items []pod }
	err := n.api.Read(ctx, "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+n.name), &list)
	return list.Items, err
}

func ready(list []condition) bool {
	for _, c := range list {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}
