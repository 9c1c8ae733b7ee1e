package dataplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Apply makes the node look like st. A state older than the last one is
// ignored. What fails is reported, joined, and tried again by the next Apply;
// everything else is in place when Apply returns.
func (p *Plane) Apply(ctx context.Context, st nodeapi.NetState) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.applied && st.Gen < p.state.Gen {
		return nil
	}
	verify := !p.applied || st.Gen == p.state.Gen
	st, err := sane(st)
	errs := []error{err}
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if err := p.base(verify); err != nil {
		return errors.Join(append(errs, fmt.Errorf("node namespace: %w", err))...)
	}
	if verify {
		clear(p.bridges) // so that each one is looked at
		clear(p.overlays)
		p.rules, p.hostRules = nil, nil
	}
	old := p.state
	p.state, p.applied = st, true
	note("removing routers", p.removeRouters())
	for _, n := range st.Networks {
		note("network "+n.ID, p.ensureBridge(n, verify))
	}
	note("the host's rules", p.ensureHostRules(ctx))
	note("security groups", p.ensureRules(ctx))
	if p.rules != nil {
		p.publish(ctx)
		note("ports", p.ensureTaps())
		p.forget(&old, &st)
	}
	p.populate(ctx, &st, verify, note)
	note("removing networks", p.removeNetworks())
	return errors.Join(errs...)
}

// populate makes what is on the bridges besides taps.
func (p *Plane) populate(ctx context.Context, st *nodeapi.NetState, verify bool, note func(string, error)) {
	ports := portsByNetwork(st)
	segs := segments(st, ports)
	all := slices.Collect(maps.Values(segs))
	p.seen.Store(&all)
	for _, n := range st.Networks {
		note("services of network "+n.ID, p.ensureService(ctx, segs[n.ID], verify))
	}
	for _, r := range st.Routers {
		if r.AdminUp {
			note("router "+r.ID, p.ensureRouter(ctx, r, segs, verify))
		}
	}
	var tables neighbours
	for _, n := range st.Networks {
		note("overlay of network "+n.ID, p.ensureOverlay(n, ports[n.ID], &tables))
	}
}

// base makes the node's namespace, which forwards between bridge ports only.
func (p *Plane) base(verify bool) error {
	if p.node != nil && !verify {
		return nil
	}
	ns, _, err := netns.Ensure(p.nodeNS())
	if err != nil {
		return err
	}
	if p.node != nil {
		p.node.Close()
	}
	p.node = ns
	return sysctls(ns,
		"net/ipv4/ip_forward=0",
		"net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1",
		"net/bridge/bridge-nf-call-iptables=1", "net/bridge/bridge-nf-call-ip6tables=1",
		"net/bridge/bridge-nf-call-arptables=0")
}

// ensureRules puts the firewall in place: all of it at first, later what changed.
func (p *Plane) ensureRules(ctx context.Context) error {
	now := p.compiler.Compile(&p.state, p.zones, p.edges())
	script := now.Bridge.Replace() + now.Inet.Replace()
	if p.rules != nil {
		script = now.Bridge.Diff(p.rules.Bridge) + now.Inet.Diff(p.rules.Inet)
	}
	if err := nft.Run(ctx, p.node, script); err != nil {
		p.rules = nil // rewrite all of it next time
		return err
	}
	p.rules = &now
	return nil
}

// publish lets Tap go on for the ports whose rules are now in place.
func (p *Plane) publish(ctx context.Context) {
	ports := map[string]nodeapi.Port{}
	for _, port := range p.state.Ports {
		if _, ok := p.bridges[port.NetworkID]; ok && port.Local && port.Behind == "" {
			ports[port.ID] = port
		}
	}
	p.portsMu.Lock()
	defer p.portsMu.Unlock()
	p.ports = ports
	close(p.changed)
	p.changed = make(chan struct{})
}

func portsByNetwork(st *nodeapi.NetState) map[string][]*nodeapi.Port {
	ports := make(map[string][]*nodeapi.Port, len(st.Networks))
	for i := range st.Ports {
		p := &st.Ports[i]
		ports[p.NetworkID] = append(ports[p.NetworkID], p)
	}
	return ports
}

// segments indexes the ports of every network.
func segments(st *nodeapi.NetState, ports map[string][]*nodeapi.Port) map[string]*segment.Segment {
	segs := make(map[string]*segment.Segment, len(st.Networks))
	for _, n := range st.Networks {
		segs[n.ID] = segment.New(n, ports[n.ID])
	}
	return segs
}

// removeRouters takes away the routers that are no longer wanted. It goes
// before anything is made, so that an address can move to another router.
func (p *Plane) removeRouters() error {
	want := map[string]bool{}
	for _, r := range p.state.Routers {
		want[r.ID] = r.AdminUp
	}
	for id, r := range p.routers {
		if !want[id] {
			r.close()
			delete(p.routers, id)
		}
	}
	return p.removeNamespaces(p.routerNS(""), want)
}

// removeNetworks takes away the service namespaces and bridges of networks
// that are no longer wanted, after everything that used them has gone.
func (p *Plane) removeNetworks() error {
	bridges, services := map[string]bool{}, map[string]bool{}
	for _, n := range p.state.Networks {
		bridges[n.ID] = true
		services[n.ID] = n.ServicePortID != ""
	}
	for id, s := range p.services {
		if !services[id] {
			s.close()
			delete(p.services, id)
		}
	}
	for id := range p.bridges {
		if !bridges[id] {
			delete(p.bridges, id)
		}
	}
	for id := range p.overlays {
		if !bridges[id] {
			delete(p.overlays, id)
		}
	}
	for id := range p.zones {
		if !bridges[id] {
			delete(p.zones, id)
		}
	}
	return errors.Join(
		p.removeNamespaces(p.serviceNS(""), services),
		p.removeLinks())
}

// removeNamespaces removes those that begin with prefix and whose id is not wanted.
func (p *Plane) removeNamespaces(prefix string, want map[string]bool) error {
	names, err := netns.List(prefix)
	errs := []error{err}
	for _, name := range names {
		if !want[name[len(prefix):]] {
			errs = append(errs, removeNamespace(name))
		}
	}
	return errors.Join(errs...)
}

// same tells whether an object is as it was when it was last realised.
func same[T any](a, b T) bool { return reflect.DeepEqual(a, b) }
