package network

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// nodeView is what one node was told of networks, kept true to the records by parts:
// what it costs grows with what has changed, not with what there is.
type nodeView struct {
	*Service
	node   string
	topics map[topic]struct{} // that it hears of; subscribe alone changes it
	wake   chan struct{}

	mu   sync.Mutex
	dirt dirt

	// The rest belongs to the goroutine that runs the view.
	fresh    bool // nothing was told yet
	members  *members
	networks map[string]nodeapi.Network
	routers  map[string]nodeapi.Router
	ports    map[string]toldPort
	groups   map[string]*nodeapi.SecurityGroup // as groupState gives them
}

// toldPort is a port as the node was told of it.
type toldPort struct {
	*Port
	local  bool
	tunnel netip.Addr
	routed []netip.Addr
}

// dirt is what has to be looked at anew.
type dirt struct {
	all, reach, routers, groups bool
	urgent                      bool // it is of a server on this node, which waits for it
	networks, ports             map[string]struct{}
}

func cleanDirt() dirt { return dirt{networks: map[string]struct{}{}, ports: map[string]struct{}{}} }

func (s *Service) newNodeView(node string) *nodeView {
	return &nodeView{Service: s, node: node, wake: make(chan struct{}, 1), dirt: cleanDirt(), fresh: true, networks: map[string]nodeapi.Network{},
		routers: map[string]nodeapi.Router{}, ports: map[string]toldPort{}, groups: map[string]*nodeapi.SecurityGroup{}}
}

func (v *nodeView) mark(fn func(*dirt)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn(&v.dirt)
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func (v *nodeView) take() dirt {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.dirt
	v.dirt = cleanDirt()
	return d
}

// run calls tell with all there is and then with each change, until ctx ends.
func (v *nodeView) run(ctx context.Context, tell func(nodeapi.NetChange)) {
	v.notices.subscribe(v, v.always())
	defer v.notices.subscribe(v, nil)
	v.follow(ctx)
	v.mark(func(d *dirt) { d.all, d.urgent = true, true })
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		}
		if !v.settle(ctx, last.Add(v.spacing())) {
			return
		}
		if change := v.refresh(); !change.Empty() {
			tell(change)
			last = time.Now()
		}
	}
}

// spacing is in proportion to the pool: few nodes cost little to tell at once.
func (v *nodeView) spacing() time.Duration {
	return v.Spacing * time.Duration(min(len(v.recent().hosts), fullSpacing)) / fullSpacing
}

// fullSpacing is of how many nodes on changes are as far apart as Spacing says.
const fullSpacing = 100

// settle waits until the time, or until something is urgent. False: ctx has ended.
func (v *nodeView) settle(ctx context.Context, until time.Time) bool {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		v.mu.Lock()
		urgent := v.dirt.urgent
		v.mu.Unlock()
		if urgent {
			return true
		}
		select {
		case <-t.C:
			return true
		case <-v.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// always are the topics of a view that has nothing.
func (v *nodeView) always() map[topic]struct{} {
	return map[topic]struct{}{{aNode, v.node}: {}, {kind: anyNode}: {}}
}

// refresh brings the view up to date and gives what that changed.
func (v *nodeView) refresh() nodeapi.NetChange {
	d := v.take()
	c := &call{Service: v.Service, members: v.recent()}
	out := nodeapi.NetChange{Gen: v.DB.Revision(), Whole: v.fresh}
	v.fresh = false
	v.members = c.members
	if d.all {
		d.routers, d.groups = true, true
		for id := range v.networks {
			d.networks[id] = struct{}{}
		}
		for id := range v.ports {
			d.ports[id] = struct{}{}
		}
	}
	if d.all || d.reach {
		d.groups = true
		v.spread(c, &d, &out)
	}
	v.tellNetworks(c, &d, &out)
	for id := range d.ports {
		v.tellPort(c, id, &out)
	}
	if d.routers {
		v.tellRouters(c, &out)
	}
	if d.groups {
		v.tellGroups(c, &out)
	}
	return out
}

// spread finds what the node has now, and what it has no more. Topics are
// subscribed to before what they are about is read, so that no change is lost.
func (v *nodeView) spread(c *call, d *dirt, out *nodeapi.NetChange) {
	var wanted, routers map[string]bool
	var groups map[string]bool
	for grown := true; grown; {
		wanted, routers = c.reached(v.node)
		groups = c.groupsOn(v.node)
		topics := v.always()
		for kind, ids := range map[byte]map[string]bool{aNetwork: wanted, aRouter: routers, aGroup: groups} {
			for id := range ids {
				topics[topic{kind, id}] = struct{}{}
			}
		}
		grown = false
		for t := range topics {
			if _, has := v.topics[t]; !has {
				grown = true
				break
			}
		}
		v.notices.subscribe(v, topics)
	}
	v.drop(wanted, out)
	for id := range wanted {
		if _, had := v.networks[id]; !had {
			v.networks[id] = nodeapi.Network{}
			d.networks[id] = struct{}{}
			for _, p := range v.Service.ports.By("network", id) {
				d.ports[p.ID] = struct{}{}
			}
		}
	}
	keep(v.routers, routers, nodeapi.Router{}, out)
	keep(v.groups, groups, nil, out)
	d.routers = d.routers || len(routers) > 0
}

// keep makes the keys of what was told those that are wanted; what is new is told later.
func keep[T any](told map[string]T, wanted map[string]bool, empty T, out *nodeapi.NetChange) {
	for id := range told {
		if !wanted[id] {
			delete(told, id)
			out.Gone = append(out.Gone, id)
		}
	}
	for id := range wanted {
		if _, has := told[id]; !has {
			told[id] = empty
		}
	}
}

// drop takes networks away that are not wanted any more, with their ports.
func (v *nodeView) drop(wanted map[string]bool, out *nodeapi.NetChange) {
	dropped := false
	for id := range v.networks {
		if !wanted[id] {
			delete(v.networks, id)
			out.Gone = append(out.Gone, id)
			dropped = true
		}
	}
	if !dropped {
		return
	}
	for id, p := range v.ports {
		if !wanted[p.NetworkID] {
			delete(v.ports, id)
			out.Gone = append(out.Gone, id)
		}
	}
}

func (v *nodeView) tellNetworks(c *call, d *dirt, out *nodeapi.NetChange) {
	for id := range d.networks {
		was, wanted := v.networks[id]
		n, err := v.Service.networks.Get(id)
		if !wanted || err != nil {
			continue // its end is a change of what the node reaches
		}
		if x := c.networkOn(n, v.node); !reflect.DeepEqual(was, x) {
			v.networks[id] = x
			out.Networks = append(out.Networks, x)
		}
	}
}

func (v *nodeView) tellPort(c *call, id string, out *nodeapi.NetChange) {
	was, had := v.ports[id]
	p, err := v.Service.ports.Get(id)
	if err == nil {
		if _, wanted := v.networks[p.NetworkID]; !wanted || serviceOwned(p.DeviceOwner) {
			p = nil
		}
	}
	if err != nil || p == nil {
		if had {
			delete(v.ports, id)
			out.Gone = append(out.Gone, id)
		}
		return
	}
	x := c.nodePort(p, v.node)
	v.ports[id] = toldPort{p, x.Local, x.Tunnel, x.Routed}
	if !had || was.local != x.Local || was.tunnel != x.Tunnel || !slices.Equal(was.routed, x.Routed) || was.Port != p && !samePort(was.Port, p) {
		out.Ports = append(out.Ports, x)
	}
}

func (v *nodeView) tellRouters(c *call, out *nodeapi.NetChange) {
	for id, was := range v.routers {
		r, err := v.Service.routers.Get(id)
		if err != nil {
			continue
		}
		if x := c.routerOn(r, v.node); !reflect.DeepEqual(was, x) {
			v.routers[id] = x
			out.Routers = append(out.Routers, x)
		}
	}
}

func (v *nodeView) tellGroups(c *call, out *nodeapi.NetChange) {
	for id, was := range v.groups {
		x := c.groupState(id)
		if x == nil || x == was {
			continue
		}
		v.groups[id] = x
		if was == nil || was.Stateful != x.Stateful || !reflect.DeepEqual(was.Rules, x.Rules) {
			out.SecurityGroups = append(out.SecurityGroups, *x)
			continue
		}
		if m := membersChange(was, x); len(m.Come)+len(m.Gone) > 0 {
			out.Members = append(out.Members, m)
		}
	}
}

// membersChange compares the members of two states of a group, which are sorted.
func membersChange(old, now *nodeapi.SecurityGroup) nodeapi.MemberChange {
	out := nodeapi.MemberChange{Group: now.ID}
	a, b := old.Members, now.Members
	for len(a)+len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Less(b[0]):
			out.Gone, a = append(out.Gone, a[0]), a[1:]
		case len(a) == 0 || b[0].Less(a[0]):
			out.Come, b = append(out.Come, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// state is all that the node was told, in the form and order of NetState.
func (v *nodeView) state(gen int64) nodeapi.NetState {
	c := &call{Service: v.Service, members: v.members}
	st := nodeapi.NetState{Gen: gen}
	for _, id := range slices.Sorted(maps.Keys(v.routers)) {
		if v.routers[id].ID != "" {
			st.Routers = append(st.Routers, v.routers[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.networks)) {
		if v.networks[id].ID != "" {
			st.Networks = append(st.Networks, v.networks[id])
		}
	}
	for _, p := range v.ports {
		st.Ports = append(st.Ports, c.nodePort(p.Port, v.node))
	}
	slices.SortFunc(st.Ports, func(a, b nodeapi.Port) int {
		return cmp.Or(cmp.Compare(a.NetworkID, b.NetworkID), cmp.Compare(a.ID, b.ID))
	})
	for _, id := range slices.Sorted(maps.Keys(v.groups)) {
		if v.groups[id] != nil {
			st.SecurityGroups = append(st.SecurityGroups, *v.groups[id])
		}
	}
	return st
}

// Changes delivers the state of a node, whole, and then what changes in it. What
// happens while the reader is busy is one change. The channel closes when ctx ends.
func (s *Service) Changes(ctx context.Context, node string) <-chan nodeapi.NetChange {
	out := make(chan nodeapi.NetChange)
	go func() {
		defer close(out)
		s.newNodeView(node).run(ctx, func(change nodeapi.NetChange) {
			select {
			case out <- change:
			case <-ctx.Done():
			}
		})
	}()
	return out
}

// Watch delivers the state of a node now and whenever it has changed; a reader
// that is slow gets the newest. The channel closes when ctx ends.
func (s *Service) Watch(ctx context.Context, node string) <-chan nodeapi.NetState {
	out := make(chan nodeapi.NetState, 1)
	go func() {
		defer close(out)
		v := s.newNodeView(node)
		v.run(ctx, func(change nodeapi.NetChange) {
			select {
			case <-out:
			default:
			}
			out <- v.state(change.Gen)
		})
	}()
	return out
}
