package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/cluster/autoscale"
	"github.com/strata-cloud/strata/internal/kube/drain"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// The labels of autoscaling: Magnum's, and two flags of upstream's cluster-autoscaler.
const (
	scalingLabel  = "auto_scaling_enabled"
	minLabel      = "min_node_count"
	maxLabel      = "max_node_count"
	unneededLabel = "scale_down_unneeded_time"
	partLabel     = "scale_down_utilization_threshold"
)

// Defaults of those flags, how often a cluster is looked at, and how long a group that could
// not grow is left alone.
const (
	defaultUnneeded = 10 * time.Minute
	defaultPart     = 0.5
	scanEvery       = 5 * time.Second
	growAgain       = 5 * time.Minute
)

// scaling is how a cluster wants its groups to follow its pods.
type scaling struct {
	on       bool
	unneeded time.Duration
	part     float64
}

// scalingOf reads a cluster's labels; what cannot be read is as if it were not there.
func scalingOf(c *Cluster) scaling {
	s := scaling{unneeded: defaultUnneeded, part: defaultPart}
	if on, err := boolOf(scalingLabel, c.Labels[scalingLabel]); err == nil {
		s.on = on
	}
	if d, err := time.ParseDuration(labelText(c.Labels[unneededLabel])); err == nil && d > 0 {
		s.unneeded = d
	}
	if f, err := strconv.ParseFloat(labelText(c.Labels[partLabel]), 64); err == nil && f >= 0 && f <= 1 {
		s.part = f
	}
	return s
}

// labelText is a label's value, as text.
func labelText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// bounds are how few and how many nodes a group may have when it follows; most 0: it does
// not. The default workers' may come from labels, and there is always one, as the cluster's
// name server needs a place.
func (g *Group) bounds() (least, most int) {
	least = g.MinNodeCount
	if g.MaxNodeCount != nil {
		most = *g.MaxNodeCount
	}
	if !g.Default {
		return least, most
	}
	if n, err := strconv.Atoi(labelText(g.Labels[minLabel])); err == nil && least == 0 {
		least = n
	}
	if n, err := strconv.Atoi(labelText(g.Labels[maxLabel])); err == nil && most == 0 {
		most = n
	}
	return max(least, 1), most
}

// autoscale has a cluster's groups follow its pods, while its labels say so.
func (s *Service) autoscale(ctx context.Context, t Target, api *kubeapi.Client) error {
	enabled := func() []bool {
		c, err := s.clusters.Get(t.ID)
		return []bool{err == nil && scalingOf(c).on}
	}
	end := func() {}
	defer func() { end() }()
	for on := range store.Stream(ctx, s.DB, enabled, service+"/cluster") {
		end()
		end = func() {}
		if on[0] {
			within, cancel := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				(&scaler{Service: s, target: t, api: api, since: map[string]time.Time{}, told: map[string]string{}}).run(within)
			}()
			end = func() { cancel(); <-done }
		}
	}
	return ctx.Err()
}

// scaler is the autoscaler of one cluster.
type scaler struct {
	*Service
	target Target
	api    *kubeapi.Client

	pods    []autoscale.Pod
	nodes   []autoscale.Node
	budgets []autoscale.Budget

	since map[string]time.Time // nodes that have had little to do
	grew  time.Time
	told  map[string]string // what pods were told last, by their ids
}

var budgetKind = kubeapi.Kind{APIVersion: "policy/v1", Kind: "PodDisruptionBudget", Plural: "poddisruptionbudgets"}

// run follows the cluster and looks at it in intervals, once all is known.
func (a *scaler) run(ctx context.Context) {
	failed := func(err error) { a.Log.Warn("autoscaling", "cluster", a.target.ID, "err", err) }
	pods := kubeapi.Follow[autoscale.Pod](ctx, a.api, kubeapi.Pods, "", failed)
	nodes := kubeapi.Follow[autoscale.Node](ctx, a.api, kubeapi.Nodes, "", failed)
	budgets := kubeapi.Follow[autoscale.Budget](ctx, a.api, budgetKind, "", failed)
	seen := map[string]bool{}
	tick := time.NewTicker(scanEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case a.pods = <-pods:
			seen["pods"] = true
		case a.nodes = <-nodes:
			seen["nodes"] = true
		case a.budgets = <-budgets:
			seen["budgets"] = true
		case <-tick.C:
			if len(seen) < 3 {
				continue
			}
			if err := a.scan(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
		case <-ctx.Done():
		}
	}
	for range pods { // their ends are ours
	}
	for range nodes {
	}
	for range budgets {
	}
}

// scan looks at the cluster once, and has one group grow or shrink. Nothing is begun while
// something else goes on.
func (a *scaler) scan(ctx context.Context) error {
	c, err := a.clusters.Get(a.target.ID)
	if err != nil {
		return ignoreAbsent(err)
	}
	if c.Status != CreateComplete && c.Status != UpdateComplete && c.Status != UpdateFailed {
		clear(a.since)
		return nil
	}
	how := scalingOf(c)
	state, err := a.state(ctx, c)
	if err != nil {
		return err
	}
	growth, helpless := state.Grow()
	if growth != nil {
		clear(a.since)
		return a.grow(ctx, c, growth)
	}
	if len(helpless) > 0 {
		clear(a.since)
		a.tellHelpless(ctx, state, helpless)
		return nil
	}
	clear(a.told)
	return a.shrink(ctx, c, state, how)
}

// state is what there is to decide on.
func (a *scaler) state(ctx context.Context, c *Cluster) (*autoscale.State, error) {
	s := &autoscale.State{Nodes: a.nodes, Pods: a.pods, Budgets: a.budgets}
	for _, g := range a.groups.By("cluster", c.ID) {
		least, most := g.bounds()
		if g.Role == masterRole || most == 0 || g.Status == DeleteInProgress {
			continue
		}
		x := autoscale.Group{ID: g.ID, Name: g.Name, Count: g.NodeCount, Min: least, Max: most,
			Size: autoscale.Resources{"cpu": autoscale.Quantity(g.Size.VCPUs * 1000), "memory": autoscale.Quantity(g.Size.MemoryMiB<<20) * 1000}}
		for _, w := range a.present(g.ID) {
			x.Nodes = append(x.Nodes, w.Node)
		}
		if g.Status != UpdateFailed || time.Since(*g.Updated) > growAgain {
			var err error
			if g.Server != nil {
				x.Room = most // what the project may have is seen when it is asked for
			} else if x.Room, err = a.room(ctx, g.Size); err != nil {
				return nil, err
			}
		}
		s.Groups = append(s.Groups, x)
	}
	return s, nil
}

// grow has a group grow, and tells the pods.
func (a *scaler) grow(ctx context.Context, c *Cluster, x *autoscale.Growth) error {
	to := x.Group.Count + x.By
	if err := a.turnTo(ctx, c, x.Group.ID, to, nil); err != nil {
		return err
	}
	a.grew = time.Now()
	a.Log.Info("a node group grows for pods that wait", "cluster", c.ID, "group", x.Group.Name, "from", x.Group.Count, "to", to)
	what := fmt.Sprintf("pod triggered scale-up: [{%s %d->%d (max: %d)}]", x.Group.Name, x.Group.Count, to, x.Group.Max)
	for _, p := range x.Pods {
		a.tell(ctx, p, "TriggeredScaleUp", what)
	}
	return nil
}

// turnTo begins to change how many nodes a group has, for the owner of the cluster.
func (a *scaler) turnTo(ctx context.Context, c *Cluster, group string, count int, remove []string) error {
	g, err := a.groups.Get(group)
	if err != nil {
		return ignoreAbsent(err)
	}
	return a.resize(ctx, &policy.Credentials{ProjectID: c.ProjectID, UserID: c.UserID}, "", c, g, count, remove)
}

// shrink takes nodes away that have had little to do for long enough.
func (a *scaler) shrink(ctx context.Context, c *Cluster, state *autoscale.State, how scaling) error {
	spares := state.Spares(how.part)
	idle := map[string]time.Time{}
	gone := map[*autoscale.Group][]string{}
	for _, x := range spares {
		idle[x.Node] = time.Now()
		if t, ok := a.since[x.Node]; ok {
			idle[x.Node] = t
		}
		if time.Since(idle[x.Node]) >= how.unneeded && time.Since(a.grew) >= how.unneeded {
			gone[x.Group] = append(gone[x.Group], x.Node)
		}
	}
	a.since = idle
	for g, names := range gone {
		empty := a.emptied(ctx, names)
		if len(empty) == 0 {
			continue
		}
		a.Log.Info("a node group shrinks, as nodes have little to do", "cluster", c.ID, "group", g.Name, "nodes", empty)
		for _, n := range empty {
			a.event(ctx, kubeapi.Reference{Kind: kubeapi.Nodes, Name: n, UID: n}, "ScaleDown", "node removed by cluster autoscaler")
		}
		return a.turnTo(ctx, c, g.ID, g.Count-len(empty), empty) // the next group when this is done
	}
	return nil
}

// emptied are those of the nodes that could be drained. Others take pods again.
func (a *scaler) emptied(ctx context.Context, names []string) (out []string) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for _, n := range names {
		err := a.empty(ctx, n)
		if err == nil {
			out = append(out, n)
			continue
		}
		a.Log.Warn("a node that has little to do stays", "cluster", a.target.ID, "node", n, "err", err)
		a.since[n] = time.Now()
		back, stop := context.WithTimeout(context.WithoutCancel(ctx), scanEvery)
		if err := drain.Uncordon(back, a.api, n); err != nil {
			a.Log.Warn("a node that stays takes no pods", "cluster", a.target.ID, "node", n, "err", err)
		}
		stop()
	}
	return out
}

func (a *scaler) empty(ctx context.Context, node string) error {
	if a.Drain == nil {
		return nil
	}
	return a.Drain(ctx, a.api, node)
}

// room counts the machines that could become workers of a size.
func (s *Service) room(ctx context.Context, size Size) (count int, err error) {
	list, err := s.Placement.Candidates(ctx, size.VCPUs, size.MemoryMiB)
	if err != nil {
		return 0, err
	}
	for node := range list {
		if s.hireable(node) {
			count++
		}
	}
	return count, nil
}

// hireable tells whether a node can become a worker.
func (s *Service) hireable(node string) bool {
	if _, err := s.Nodes.Conn(node); err != nil || !s.Pool.Address(node).IsValid() || !s.Pool.Takes(node) {
		return false
	}
	_, taken := s.workers.Unique("node", node)
	return !taken
}

// tellHelpless tells pods why no group grows for them, once.
func (a *scaler) tellHelpless(ctx context.Context, state *autoscale.State, pods []*autoscale.Pod) {
	why := map[string]int{}
	for _, g := range state.Groups {
		switch {
		case g.Count >= g.Max:
			why["max node group size reached"]++
		case g.Room == 0:
			why["no free machine in the pool"]++
		default:
			why["a new node would not take it"]++
		}
	}
	text := "pod didn't trigger scale-up:"
	for _, w := range slices.Sorted(maps.Keys(why)) {
		text += fmt.Sprintf(" %d %s", why[w], w)
	}
	for _, p := range pods {
		a.tell(ctx, p, "NotTriggerScaleUp", text)
	}
}

// tell tells a pod something, unless it was the last.
func (a *scaler) tell(ctx context.Context, p *autoscale.Pod, reason, message string) {
	if a.told[p.Metadata.UID] == message {
		return
	}
	a.told[p.Metadata.UID] = message
	a.event(ctx, kubeapi.Reference{Kind: kubeapi.Pods, Namespace: p.Metadata.Namespace, Name: p.Metadata.Name, UID: p.Metadata.UID}, reason, message)
}

// eventSource is who says so, as upstream calls it.
const eventSource = "cluster-autoscaler"

func (a *scaler) event(ctx context.Context, of kubeapi.Reference, reason, message string) {
	if err := a.api.Tell(ctx, kubeapi.Event{Of: of, Reason: reason, Message: message, From: eventSource}); err != nil && ctx.Err() == nil {
		a.Log.Warn("an event of a cluster is lost", "cluster", a.target.ID, "reason", reason, "err", err)
	}
}
