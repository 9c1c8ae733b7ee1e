package network

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// notices tell the views of nodes what has changed, so that a change costs only
// those nodes that have to do with it.
type notices struct {
	once  sync.Once
	mu    sync.Mutex
	views map[topic]map[*nodeView]struct{}
	// groups are the states of security groups, until they change; changed counts that.
	groups  map[string]*nodeapi.SecurityGroup
	changed int
}

// topic is what a view can depend on.
type topic struct {
	kind byte // one of the constants below
	id   string
}

const (
	aNode    = 'h' // that ports come and go there
	aNetwork = 'n'
	aRouter  = 'r'
	aGroup   = 'g'
	anyNode  = '*' // all views
)

// follow starts to read the changes of records, once; it ends with the store.
func (s *Service) follow(ctx context.Context) {
	s.notices.once.Do(func() {
		ctx = context.WithoutCancel(ctx)
		go each(s.ports.Watch(ctx), s.portChanged)
		go each(s.networks.Watch(ctx), s.networkChanged)
		go each(s.subnets.Watch(ctx), s.subnetChanged)
		go each(s.routers.Watch(ctx), s.routerChanged)
		go each(s.floating.Watch(ctx), s.floatingChanged)
		go each(s.groups.Watch(ctx), func(old, now *SecurityGroup) {
			s.groupChanged(true, idsOf(old, now, func(g *SecurityGroup) string { return g.ID })...)
		})
		go each(s.rules.Watch(ctx), func(old, now *SecurityRule) {
			s.groupChanged(true, idsOf(old, now, func(r *SecurityRule) string { return r.GroupID })...)
		})
	})
}

// each calls fn for every change of a feed.
func each[T any](feed <-chan store.Event[T], fn func(old, now *T)) {
	for ev := range feed {
		if ev.Type != store.Synced {
			fn(ev.Old, ev.New)
		}
	}
}

// tell marks what is dirty in every view of the topic.
func (n *notices) tell(t topic, mark func(*dirt)) {
	if t.id == "" && t.kind != anyNode {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for v := range n.views[t] {
		v.mark(mark)
	}
}

// subscribe makes the view hear of topics, and no more of others; a nil list ends it.
func (n *notices) subscribe(v *nodeView, topics map[topic]struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for t := range v.topics {
		if _, stays := topics[t]; !stays {
			if delete(n.views[t], v); len(n.views[t]) == 0 {
				delete(n.views, t)
			}
		}
	}
	for t := range topics {
		if n.views[t] == nil {
			if n.views == nil {
				n.views = map[topic]map[*nodeView]struct{}{}
			}
			n.views[t] = map[*nodeView]struct{}{}
		}
		n.views[t][v] = struct{}{}
	}
	v.topics = topics
}

// idsOf gives the ids of the two states of a record, each once and none empty.
func idsOf[T any](old, now *T, id func(*T) string) []string {
	var out []string
	for _, v := range []*T{old, now} {
		if v == nil {
			continue
		}
		if x := id(v); x != "" && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (s *Service) portChanged(old, now *Port) {
	if old != nil && now != nil && samePort(old, now) {
		return // such as its status
	}
	id, served := "", false
	var other []string // what is told of them follows from this one
	for _, p := range []*Port{old, now} {
		if p != nil {
			id, served = p.ID, served || serviceOwned(p.DeviceOwner)
			other = append(other, s.tied(p)...)
		}
	}
	for _, n := range idsOf(old, now, func(p *Port) string { return p.NetworkID }) {
		s.notices.tell(topic{aNetwork, n}, func(d *dirt) {
			d.ports[id] = struct{}{}
			for _, x := range other {
				d.ports[x] = struct{}{}
			}
			if served {
				d.networks[n], d.reach = struct{}{}, true
			}
		})
	}
	for _, p := range []*Port{old, now} {
		if p != nil && legOfRouter(p.DeviceOwner) {
			s.routerTouched(p.DeviceID)
		}
	}
	for _, h := range idsOf(old, now, func(p *Port) string { return p.Host }) {
		s.notices.tell(topic{aNode, h}, func(d *dirt) { d.ports[id], d.reach, d.urgent = struct{}{}, true, true })
	}
	for _, p := range []*Port{old, now} {
		if p != nil && p.Behind != "" { // its address is a member of its machine's groups
			if gate, err := s.ports.Get(p.Behind); err == nil && gate.Worker != nil {
				s.groupChanged(false, gate.Groups...)
			}
		}
	}
	if old != nil && now != nil && slices.Equal(old.Groups, now.Groups) && slices.Equal(old.FixedIPs, now.FixedIPs) && slices.Equal(old.Pairs, now.Pairs) {
		return
	}
	for _, p := range []*Port{old, now} {
		if p != nil {
			s.groupChanged(false, p.Groups...)
		}
	}
}

// tied are the ports of which nodes are told something that follows from p: those behind a
// server's, and the server's of one that is behind it.
func (s *Service) tied(p *Port) (ids []string) {
	if p.Behind != "" {
		return []string{p.Behind}
	}
	if p.Worker != nil {
		for _, x := range s.ports.By("behind", p.ID) {
			ids = append(ids, x.ID)
		}
	}
	return ids
}

// samePort compares what nodes are told of a port.
func samePort(a, b *Port) bool {
	x, y := *a, *b
	for _, p := range []*Port{&x, &y} {
		p.Base, p.Status, p.Profile = Base{ID: p.ID}, "", nil
	}
	return reflect.DeepEqual(x, y)
}

func (s *Service) networkChanged(old, now *Network) {
	for _, n := range []*Network{old, now} {
		if n == nil {
			continue
		}
		s.notices.tell(topic{aNetwork, n.ID}, func(d *dirt) { d.networks[n.ID], d.reach = struct{}{}, true })
		if n.External {
			s.notices.tell(topic{kind: anyNode}, func(d *dirt) { d.reach = true })
		}
	}
}

func (s *Service) subnetChanged(old, now *Subnet) {
	for _, n := range idsOf(old, now, func(s *Subnet) string { return s.NetworkID }) {
		s.notices.tell(topic{aNetwork, n}, func(d *dirt) { d.networks[n], d.routers, d.reach = struct{}{}, true, true })
	}
}

// routerTouched is for what belongs to a router, and for the node that has its gateway now.
func (s *Service) routerTouched(id string) {
	mark := func(d *dirt) { d.routers, d.reach = true, true }
	s.notices.tell(topic{aRouter, id}, mark)
	c := &call{Service: s, members: s.recent()}
	s.notices.tell(topic{aNode, c.gateway(id).ID}, mark)
	if c.members.alone() {
		s.notices.tell(topic{kind: anyNode}, mark)
	}
}

// poolChanged tells what follows from nodes that came, went or changed: where their
// ports are reached, and which routers have their gateway elsewhere.
func (s *Service) poolChanged(old, now *members, changed []string) {
	s.notices.mu.Lock()
	heard := len(s.notices.views) > 0
	s.notices.mu.Unlock()
	if !heard {
		return
	}
	rewired := func(id string) bool { return !slices.Equal(old.byID[id].Physicals, now.byID[id].Physicals) }
	if old.alone() != now.alone() || slices.ContainsFunc(changed, rewired) {
		s.notices.tell(topic{kind: anyNode}, func(d *dirt) { d.all = true })
		return
	}
	for _, id := range changed {
		for _, p := range s.portsOn(id, old.byID[id].Name, now.byID[id].Name) {
			s.notices.tell(topic{aNetwork, p.NetworkID}, func(d *dirt) {
				d.ports[p.ID] = struct{}{}
				for _, x := range s.tied(p) {
					d.ports[x] = struct{}{}
				}
				if serviceOwned(p.DeviceOwner) {
					d.networks[p.NetworkID] = struct{}{}
				}
			})
		}
		s.notices.tell(topic{aNode, id}, func(d *dirt) { d.all = true })
	}
	for key, was := range old.chosen() {
		router, needs, _ := strings.Cut(key, " ")
		if sameHost(was, now.gateway(router, strings.Fields(needs))) {
			continue
		}
		s.routerTouched(router)
		s.notices.tell(topic{aNode, was.ID}, func(d *dirt) { d.routers, d.reach = true, true })
		nets := []string{}
		if r, err := s.routers.Get(router); err == nil {
			nets = append(nets, r.GatewayNet)
		}
		for _, p := range (&call{Service: s}).interfaces(router) {
			nets = append(nets, p.NetworkID)
		}
		for _, n := range nets {
			s.notices.tell(topic{aNetwork, n}, func(d *dirt) { d.networks[n] = struct{}{} })
		}
	}
}

// portsOn are the ports of a node by any of its names.
func (s *Service) portsOn(names ...string) []*Port {
	slices.Sort(names)
	var out []*Port
	for _, n := range slices.Compact(names) {
		if n != "" {
			out = append(out, s.ports.By("host", n)...)
		}
	}
	return out
}

func (s *Service) routerChanged(old, now *Router) {
	for _, id := range idsOf(old, now, func(r *Router) string { return r.ID }) {
		s.routerTouched(id)
	}
	for _, n := range idsOf(old, now, func(r *Router) string { return r.GatewayNet }) {
		s.notices.tell(topic{aNetwork, n}, func(d *dirt) { d.networks[n] = struct{}{} })
	}
}

func (s *Service) floatingChanged(old, now *FloatingIP) {
	for _, id := range idsOf(old, now, func(f *FloatingIP) string { return f.RouterID }) {
		s.routerTouched(id)
	}
	for _, n := range idsOf(old, now, func(f *FloatingIP) string { return f.NetworkID }) {
		s.notices.tell(topic{aNetwork, n}, func(d *dirt) { d.networks[n] = struct{}{} })
	}
}

// groupChanged forgets what was derived of groups and tells who has them. With
// rules they may name other groups.
func (s *Service) groupChanged(rules bool, ids ...string) {
	for _, id := range ids {
		s.notices.mu.Lock()
		delete(s.notices.groups, id)
		s.notices.changed++
		s.notices.mu.Unlock()
		s.notices.tell(topic{aGroup, id}, func(d *dirt) { d.groups, d.reach = true, d.reach || rules })
	}
}

// groupState is what nodes are told of a group. It is derived once for all of them:
// never change it.
func (c *call) groupState(id string) *nodeapi.SecurityGroup {
	n := &c.notices
	n.mu.Lock()
	x, before := n.groups[id], n.changed
	n.mu.Unlock()
	if x != nil {
		return x
	}
	g, err := c.groups.Get(id)
	if err != nil {
		return nil
	}
	x = c.nodeGroup(g)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.groups == nil {
		n.groups = map[string]*nodeapi.SecurityGroup{}
	}
	if n.changed == before { // else it may be what was before
		n.groups[id] = x
	}
	return x
}
