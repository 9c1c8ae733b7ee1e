package autoscale

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Group is a node group as it is wanted.
type Group struct {
	ID, Name        string
	Count, Min, Max int
	Nodes           []string  // that it has or will have, by name
	Size            Resources // of a node, as long as there is none to look at
	Room            int       // how many more machines there are for it
}

// State is a cluster.
type State struct {
	Groups  []Group
	Nodes   []Node
	Pods    []Pod
	Budgets []Budget
}

// Growth is what helps pods that wait.
type Growth struct {
	Group *Group
	By    int
	Pods  []*Pod // that find a place then
}

// Grow gives the group that should grow, or nil, and the pods that no group can help.
func (s *State) Grow() (best *Growth, helpless []*Pod) {
	waiting := s.homeless()
	if len(waiting) == 0 {
		return nil, nil
	}
	helped := map[*Pod]bool{}
	waste := 0.0
	for i := range s.Groups {
		g := &s.Groups[i]
		most := min(g.Max-g.Count, g.Room)
		if most <= 0 {
			continue
		}
		growth, idle := s.pack(g, most, waiting)
		for _, p := range growth.Pods {
			helped[p] = true
		}
		if len(growth.Pods) == 0 {
			continue
		}
		better := best == nil
		if !better {
			c := cmp.Or(cmp.Compare(len(best.Pods), len(growth.Pods)), cmp.Compare(growth.By, best.By), cmp.Compare(idle, waste))
			better = c < 0
		}
		if better {
			best, waste = growth, idle
		}
	}
	for _, p := range waiting {
		if !helped[p] {
			helpless = append(helpless, p)
		}
	}
	return best, helpless
}

// homeless are the pods that wait and that neither nodes nor those under way can take.
func (s *State) homeless() (out []*Pod) {
	var waiting []*Pod
	for i := range s.Pods {
		if _, yes := s.Pods[i].Waits(); yes {
			waiting = append(waiting, &s.Pods[i])
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	// The largest first, as packing does best so.
	slices.SortStableFunc(waiting, func(a, b *Pod) int {
		x, y := a.requests(), b.requests()
		return cmp.Or(cmp.Compare(y["cpu"], x["cpu"]), cmp.Compare(y["memory"], x["memory"]), strings.Compare(a.String(), b.String()))
	})
	places := s.places(nil)
	for i := range s.Groups {
		g := &s.Groups[i]
		for n := s.ready(g); n < g.Count; n++ {
			places = append(places, s.template(g))
		}
	}
	for _, p := range waiting {
		if i := slices.IndexFunc(places, func(x *place) bool { return x.takes(p) }); i >= 0 {
			places[i].put(p)
		} else {
			out = append(out, p)
		}
	}
	return out
}

// pack puts pods onto up to most new nodes of a group; idle is which part of them is left.
func (s *State) pack(g *Group, most int, pods []*Pod) (growth *Growth, idle float64) {
	growth = &Growth{Group: g}
	var places []*place
	for _, p := range pods {
		i := slices.IndexFunc(places, func(x *place) bool { return x.takes(p) })
		if i < 0 && len(places) < most {
			if fresh := s.template(g); fresh.takes(p) {
				places = append(places, fresh)
				i = len(places) - 1
			}
		}
		if i >= 0 {
			places[i].put(p)
			growth.Pods = append(growth.Pods, p)
		}
	}
	growth.By = len(places)
	all := s.template(g).free
	for _, x := range places {
		for _, k := range []string{"cpu", "memory"} {
			if all[k] > 0 {
				idle += float64(x.free[k] / all[k])
			}
		}
	}
	return growth, idle
}

// places are the nodes that are ready but those, with what they have.
func (s *State) places(but map[string]bool) (out []*place) {
	on := s.on()
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Ready() && !but[n.Metadata.Name] {
			out = append(out, newPlace(n, on[n.Metadata.Name]))
		}
	}
	return out
}

// on are the pods of nodes.
func (s *State) on() map[string][]*Pod {
	out := map[string][]*Pod{}
	for i := range s.Pods {
		if p := &s.Pods[i]; p.Spec.NodeName != "" && !p.ended() {
			out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
		}
	}
	return out
}

func (s *State) node(name string) *Node {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Metadata.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Nodes[i]
}

// ready counts a group's nodes that are.
func (s *State) ready(g *Group) (count int) {
	for _, name := range g.Nodes {
		if n := s.node(name); n != nil && n.Ready() {
			count++
		}
	}
	return count
}

// template is a new node of a group: as one that it has, with what each node has.
func (s *State) template(g *Group) *place {
	for _, name := range g.Nodes {
		n := s.node(name)
		if n == nil || !n.Ready() {
			continue
		}
		fresh := *n
		fresh.Metadata.Name, fresh.Metadata.Labels, fresh.Spec.Unschedulable = "", maps.Clone(n.Metadata.Labels), false
		delete(fresh.Metadata.Labels, hostname)
		fresh.Spec.Taints = slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t Taint) bool { return strings.HasPrefix(t.Key, "node.kubernetes.io/") })
		each := slices.DeleteFunc(slices.Clone(s.on()[name]), func(p *Pod) bool { return !p.ownedBy("DaemonSet") && !p.mirror() })
		return newPlace(&fresh, each)
	}
	return &place{labels: map[string]string{"kubernetes.io/os": "linux"}, free: Resources{podsResource: 110 * 1000}.plus(g.Size)}
}

// Spare is a node that a group can do without.
type Spare struct {
	Group *Group
	Node  string
}

// Annotations by which users say what may go (cluster-autoscaler/FAQ.md).
const (
	safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	keepNode    = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
)

// Spares are the nodes of which less than the part is asked for and whose pods others take,
// the idlest first. All of them can go together.
func (s *State) Spares(part float64) (out []Spare) {
	type candidate struct {
		group *Group
		node  *Node
		used  float64
	}
	var list []candidate
	on := s.on()
	for i := range s.Groups {
		g := &s.Groups[i]
		if s.ready(g) < g.Count {
			continue // it is changing
		}
		for _, name := range g.Nodes {
			n := s.node(name)
			if n == nil || !n.Ready() || n.Spec.Unschedulable || n.Metadata.Annotations[keepNode] == "true" {
				continue
			}
			if used := utilization(n, on[name]); used < part {
				list = append(list, candidate{g, n, used})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	gone, left := map[string]bool{}, map[*Group]int{}
	moved := []*Pod{} // that places without those nodes have to take as well
	for _, c := range list {
		name := c.node.Metadata.Name
		if c.group.Count-left[c.group] <= c.group.Min {
			continue
		}
		gone[name] = true
		pods, ok := s.movable(on[name])
		if !ok || !settle(s.places(gone), append(slices.Clone(moved), pods...)) {
			delete(gone, name)
			continue
		}
		left[c.group]++
		moved = append(moved, pods...)
		out = append(out, Spare{c.group, name})
	}
	return out
}

// utilization is the larger of the parts of CPU and memory that are asked for.
func utilization(n *Node, pods []*Pod) float64 {
	var sum Resources
	for _, p := range pods {
		sum = sum.plus(p.requests())
	}
	most := 0.0
	for _, k := range []string{"cpu", "memory"} {
		if all := n.Status.Allocatable[k]; all > 0 {
			most = max(most, float64(sum[k]/all))
		}
	}
	return most
}

// settle tells whether the places take all pods.
func settle(places []*place, pods []*Pod) bool {
	for _, p := range pods {
		i := slices.IndexFunc(places, func(x *place) bool { return x.takes(p) })
		if i < 0 {
			return false
		}
		places[i].put(p)
	}
	return true
}

// movable are the pods that have to go elsewhere; false: one must not.
func (s *State) movable(pods []*Pod) (out []*Pod, ok bool) {
	for _, p := range pods {
		if p.mirror() || p.ownedBy("DaemonSet") {
			continue
		}
		if !s.mayGo(p) {
			return nil, false
		}
		out = append(out, p)
	}
	return out, true
}

func (s *State) mayGo(p *Pod) bool {
	guarded := false
	for i := range s.Budgets {
		b := &s.Budgets[i]
		if b.Metadata.Namespace != p.Metadata.Namespace || b.Spec.Selector == nil || !b.Spec.Selector.Matches(p.Metadata.Labels) {
			continue
		}
		if guarded = true; b.Status.Allowed < 1 {
			return false
		}
	}
	switch p.Metadata.Annotations[safeToEvict] {
	case "true":
		return true
	case "false":
		return false
	}
	if !p.ownedBy("") || p.Metadata.Namespace == "kube-system" && !guarded {
		return false
	}
	for _, v := range p.Spec.Volumes {
		if v.HostPath != nil || v.EmptyDir != nil && v.EmptyDir.Medium != "Memory" {
			return false
		}
	}
	return true
}
