package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kubeapi"
)

// A worker whose machine neither the region nor the cluster hears of is out of service: its
// pods are forgotten and their volumes let go, so that both come back elsewhere. Upstream
// leaves this word to administrators, since a cluster alone cannot tell a machine that is
// lost from one that is cut off. Here the machine's leases are over, volumes are given to
// one node at a time whatever another one does, and nobody sends to the pods' ports any more.
// Of a server the region knows that it is off. One whose machine is lost is not: it comes back
// elsewhere by itself (high availability), or is its owner's to judge.
//
// Source: Kubernetes, "Non-graceful node shutdown handling".
const (
	outOfService = "node.kubernetes.io/out-of-service"
	givenUp      = "strata" // the value that tells the taint from an administrator's
	lostLook     = 3 * time.Second
)

// taint keeps pods off a node.
type taint struct {
	Key       string `json:"key"`
	Value     string `json:"value,omitempty"`
	Effect    string `json:"effect"`
	TimeAdded string `json:"timeAdded,omitempty"`
}

// taintedNode is a node of the cluster as this controller reads it.
type taintedNode struct {
	Metadata struct{ Name, UID, ResourceVersion string }
	Spec     struct{ Taints []taint }
	Status   struct {
		Conditions []struct{ Type, Status string }
	}
}

func (n *taintedNode) ready() bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c struct{ Type, Status string }) bool { return c.Type == "Ready" && c.Status == "True" })
}

func (t taint) ours() bool { return t.Key == outOfService && t.Value == givenUp }

// serviceable are the taints that a node should have; false: it has them.
func serviceable(now []taint, lost, back bool) ([]taint, bool) {
	marked := slices.ContainsFunc(now, func(t taint) bool { return t.Key == outOfService })
	switch {
	case lost && !marked:
		return append(slices.Clone(now), taint{Key: outOfService, Value: givenUp, Effect: "NoExecute"}), true
	case back && slices.ContainsFunc(now, taint.ours):
		return slices.DeleteFunc(slices.Clone(now), taint.ours), true
	}
	return now, false
}

// giveUp is the controller that marks the cluster's lost workers, and those that are back.
func (s *Service) giveUp(ctx context.Context, t Target, api *kubeapi.Client) error {
	tick := time.NewTicker(lostLook)
	defer tick.Stop()
	for marked := true; ; { // by whoever led before
		if marked || s.anyDead(t.ID) {
			var err error
			if marked, err = s.markLost(ctx, t.ID, api); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// dead tells whether a worker is a machine whose leases are over, or a server that is off.
func (s *Service) dead(w *Worker) bool {
	if w.Server != "" {
		return s.Servers.Off(w.Server)
	}
	return s.Nodes.Dead(w.Node)
}

func (s *Service) anyDead(cluster string) bool {
	return slices.ContainsFunc(s.workers.By("cluster", cluster), s.dead)
}

// markLost marks the nodes of one cluster; marked: some are.
func (s *Service) markLost(ctx context.Context, cluster string, api *kubeapi.Client) (marked bool, err error) {
	var list struct{ Items []taintedNode }
	if err := api.List(ctx, kubeapi.Nodes, "", "", &list); err != nil {
		return false, err
	}
	for _, n := range list.Items {
		w, ok := s.workers.Unique("node", n.Metadata.Name)
		if !ok || w.ClusterID != cluster {
			continue
		}
		dead, ready := s.dead(w), n.ready()
		next, change := serviceable(n.Spec.Taints, dead && !ready, !dead && ready)
		if change {
			if err := s.mark(ctx, api, &n, next); err != nil {
				return false, err
			}
			s.Log.Warn("a worker's service has changed", "cluster", cluster, "node", n.Metadata.Name, "out of service", dead)
		}
		marked = marked || slices.ContainsFunc(next, taint.ours)
	}
	return marked, nil
}

// mark gives a node its taints, unless somebody else has changed it meanwhile: then the next
// look does it.
func (s *Service) mark(ctx context.Context, api *kubeapi.Client, n *taintedNode, taints []taint) error {
	err := api.Merge(ctx, kubeapi.Nodes, "", n.Metadata.Name, "", map[string]any{"metadata": map[string]any{"resourceVersion": n.Metadata.ResourceVersion}, "spec": map[string]any{"taints": taints}})
	if errs.Is(err, errs.Conflict) || errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	e := kubeapi.Event{Of: kubeapi.Reference{Kind: kubeapi.Nodes, Name: n.Metadata.Name, UID: n.Metadata.UID}, From: "strata", Reason: "BackInService", Message: "The machine is back."}
	if slices.ContainsFunc(taints, taint.ours) {
		e.Warning, e.Reason, e.Message = true, "OutOfService", "The machine is off, or not heard of: its pods and their volumes go elsewhere."
	}
	return api.Tell(ctx, e)
}
