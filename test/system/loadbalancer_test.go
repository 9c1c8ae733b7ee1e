package system

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/strata-cloud/strata/internal/netns"
)

// TestLoadBalancer puts a load balancer before containers on two hosts and two networks,
// and asks it from a network of the project and by a floating IP.
func TestLoadBalancer(t *testing.T) {
	f := newDockPool(t, 2, 1)
	first := f.All[0]
	if err := f.Route(f.public, first); err != nil {
		t.Fatal(err)
	}
	f.push(first, "demo/busybox:latest")
	b := &balanced{tenant: f.tenant(first, "strata-demo"), c: f.clients("strata-demo"), admin: f.clients("strata")}
	b.backends()
	b.create()
	for _, part := range []struct {
		name string
		run  func(*balanced)
	}{{"distributes", (*balanced).distributes}, {"a member dies", (*balanced).memberDies}, {"monitors", (*balanced).monitors}, {"persistence", (*balanced).persists},
		{"listeners", (*balanced).listens}, {"statistics", (*balanced).counts}, {"UDP", (*balanced).udp}, {"the agent dies", (*balanced).agentGone}, {"a node is lost", (*balanced).moves}} {
		t.Run(part.name, func(t *testing.T) { part.run(b.in(t)) })
	}
	b.gone()
}

// create makes the load balancer and what belongs to it, one after the other as clients do.
func (b *balanced) create() {
	b.Helper()
	ctx := b.Context()
	b.lb = must[*loadbalancers.LoadBalancer](b)(loadbalancers.Create(ctx, b.c.balancer, loadbalancers.CreateOpts{Name: "web", VipSubnetID: b.subs["front"]}).Extract())
	b.settled()
	b.listener = must[*listeners.Listener](b)(listeners.Create(ctx, b.c.balancer, listeners.CreateOpts{LoadbalancerID: b.lb.ID, Name: "http", Protocol: listeners.ProtocolTCP, ProtocolPort: 80}).Extract()).ID
	b.settled()
	b.pool = must[*pools.Pool](b)(pools.Create(ctx, b.c.balancer, pools.CreateOpts{ListenerID: b.listener, Name: "web", Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin}).Extract()).ID
	b.settled()
	b.wants("one", "two", "far")
	b.fip = must[*floatingips.FloatingIP](b)(floatingips.Create(ctx, b.c.network, floatingips.CreateOpts{FloatingNetworkID: publicNetwork(b.T, b.c), PortID: b.lb.VipPortID}).Extract())
}

// distributes asks from the load balancer's own network and from outside.
func (b *balanced) distributes() {
	client := b.space("client")
	await(b.T, "the first answer", func() bool { _, err := get(b.Context(), client, b.vip()); return err == nil })
	if got := b.tally(9, client, b.vip()); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("from its network: %v", got)
	}
	outside := b.fip.FloatingIP + ":80"
	await(b.T, "the first answer by the floating IP", func() bool { _, err := get(b.Context(), nil, outside); return err == nil })
	if got := b.tally(9, nil, outside); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("by the floating IP: %v", got)
	}
	if _, err := get(b.Context(), client, b.lb.VipAddress+":81"); err == nil {
		b.Error("there is something where no listener is")
	}
	if got := b.tally(3, b.space("one"), b.vip()); got["one"] != 1 || got["two"] != 1 || got["far"] != 1 {
		b.Errorf("from a member, which is its own client too: %v", got)
	}
	b.wants("one", "two")
	if got := b.tally(4, client, b.vip()); got["one"] != 2 || got["two"] != 2 {
		b.Errorf("without far: %v", got)
	}
	weight := 3
	must[*pools.Member](b)(pools.UpdateMember(b.Context(), b.c.balancer, b.pool, b.members["one"], pools.UpdateMemberOpts{Weight: &weight}).Extract())
	b.settled()
	if got := b.tally(8, client, b.vip()); got["one"] != 6 || got["two"] != 2 {
		b.Errorf("3 to 1: %v", got)
	}
	b.wants("one", "two", "far")
}

// monitored watches the pool's members until the function that it gives is called.
func (b *balanced) monitored(o monitors.CreateOpts) (end func()) {
	b.Helper()
	o.PoolID, o.Delay, o.Timeout, o.MaxRetries, o.MaxRetriesDown = b.pool, 1, 1, 1, 2
	if o.Type == "UDP-CONNECT" {
		o.Delay = 3 // the least that there is
	}
	m := must[*monitors.Monitor](b)(monitors.Create(b.Context(), b.c.balancer, o).Extract())
	b.settled()
	return func() { b.Helper(); b.done(monitors.Delete(b.Context(), b.c.balancer, m.ID).ExtractErr()) }
}

// memberDies stops a container and starts it again.
func (b *balanced) memberDies() {
	client := b.space("client")
	end := b.monitored(monitors.CreateOpts{Type: "TCP"})
	tree := b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	if tree.Loadbalancer.OperatingStatus != "ONLINE" {
		b.Errorf("with everybody well it is %s", tree.Loadbalancer.OperatingStatus)
	}
	b.must("stop", "-t", "0", "two")
	tree = b.are(map[string]string{"one": "ONLINE", "two": "ERROR", "far": "ONLINE"})
	if l := tree.Loadbalancer; l.OperatingStatus != "DEGRADED" || l.ProvisioningStatus != "ACTIVE" || l.Listeners[0].Pools[0].OperatingStatus != "DEGRADED" {
		b.Errorf("without two: %s, %s, its pool %s", l.OperatingStatus, l.ProvisioningStatus, l.Listeners[0].Pools[0].OperatingStatus)
	}
	if got := b.tally(8, client, b.vip()); got["one"] != 4 || got["far"] != 4 {
		b.Errorf("without two: %v", got)
	}
	b.must("stop", "-t", "0", "one", "far")
	tree = b.are(map[string]string{"one": "ERROR", "two": "ERROR", "far": "ERROR"})
	if tree.Loadbalancer.OperatingStatus != "ERROR" {
		b.Errorf("without anybody it is %s", tree.Loadbalancer.OperatingStatus)
	}
	if _, err := get(b.Context(), client, b.vip()); err == nil || !strings.Contains(err.Error(), "refused") {
		b.Errorf("without anybody: %v", err)
	}
	b.must("start", "one", "two", "far")
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	if got := b.tally(9, client, b.vip()); got["one"] != 3 || got["two"] != 3 || got["far"] != 3 {
		b.Errorf("with everybody back: %v", got)
	}
	end()
	b.are(map[string]string{"one": "NO_MONITOR", "two": "NO_MONITOR", "far": "NO_MONITOR"})
}

// monitors has a member that answers, but not well; and one that is there, without a server.
func (b *balanced) monitors() {
	client := b.space("client")
	end := b.monitored(monitors.CreateOpts{Type: "HTTP", URLPath: "/healthz", HTTPMethod: "GET", ExpectedCodes: "200"})
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	b.must("exec", "far", "rm", "/data/healthz")
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ERROR"})
	if got := b.tally(4, client, b.vip()); got["one"] != 2 || got["two"] != 2 {
		b.Errorf("with far unwell: %v", got)
	}
	b.must("exec", "far", "touch", "/data/healthz")
	b.are(map[string]string{"far": "ONLINE"})
	end()
	end = b.monitored(monitors.CreateOpts{Type: "PING"})
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	b.must("stop", "-t", "0", "far")
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ERROR"})
	b.must("start", "far")
	b.are(map[string]string{"far": "ONLINE"})
	end()
	await(b.T, "the server behind the member to be there too", func() bool {
		for range 3 { // one turn of all members
			if _, err := get(b.Context(), client, b.vip()); err != nil {
				return false
			}
		}
		return true
	})
}

// persists has clients that keep their member, and another when that is lost.
func (b *balanced) persists() {
	client := b.space("client")
	_, err := pools.Update(b.Context(), b.c.balancer, b.pool, pools.UpdateOpts{Persistence: &pools.SessionPersistence{Type: "SOURCE_IP"}}).Extract()
	b.done(err)
	defer func() {
		none, err := b.c.balancer.Put(b.Context(), b.c.balancer.ServiceURL("lbaas", "pools", b.pool), map[string]any{"pool": map[string]any{"session_persistence": nil}}, nil, &gophercloud.RequestOpts{OkCodes: []int{200}})
		if err == nil {
			none.Body.Close()
		}
		b.done(err)
	}()
	end := b.monitored(monitors.CreateOpts{Type: "TCP"})
	defer end()
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE", "far": "ONLINE"})
	own := b.tally(6, client, b.vip())
	if len(own) != 1 {
		b.Fatalf("one client has %v", own)
	}
	for name := range own {
		b.must("stop", "-t", "0", name)
		b.are(map[string]string{name: "ERROR"})
		if got := b.tally(6, client, b.vip()); len(got) != 1 || got[name] > 0 {
			b.Errorf("without %s it has %v", name, got)
		}
		b.must("start", name)
		b.are(map[string]string{name: "ONLINE"})
		if got := b.tally(6, client, b.vip()); got[name] != 6 {
			b.Errorf("with %s back it has %v", name, got)
		}
	}
}

// listens has a listener that is switched off, and one that is not for everybody.
func (b *balanced) listens() {
	client, ctx := b.space("client"), b.Context()
	update := func(o listeners.UpdateOpts) {
		b.Helper()
		_, err := listeners.Update(ctx, b.c.balancer, b.listener, o).Extract()
		b.done(err)
	}
	silent := func(what string, ns *netns.NS, addr string) {
		b.Helper()
		if who, err := get(ctx, ns, addr); err == nil || !strings.Contains(err.Error(), "timeout") && !strings.Contains(err.Error(), "deadline") {
			b.Errorf("%s: %s, %v", what, who, err)
		}
	}
	no, yes, outside := false, true, b.fip.FloatingIP+":80"
	update(listeners.UpdateOpts{AdminStateUp: &no})
	silent("a listener that is switched off", client, b.vip())
	if l := must[*listeners.Listener](b)(listeners.Get(ctx, b.c.balancer, b.listener).Extract()); l.OperatingStatus != "OFFLINE" {
		b.Errorf("it is %s", l.OperatingStatus)
	}
	update(listeners.UpdateOpts{AdminStateUp: &yes})
	b.tally(1, client, b.vip())
	update(listeners.UpdateOpts{AllowedCIDRs: &[]string{"10.51.0.0/24"}})
	b.tally(3, client, b.vip())
	silent("who is not allowed", nil, outside)
	update(listeners.UpdateOpts{AllowedCIDRs: &[]string{"10.52.0.0/24", "198.18.0.0/16"}})
	silent("who is not allowed any more", client, b.vip())
	b.tally(1, nil, outside)
	b.tally(1, b.space("far"), b.vip())
	update(listeners.UpdateOpts{AllowedCIDRs: &[]string{}})
	b.tally(3, client, b.vip())
}

// counts has the statistics of the load balancer and of its listener.
func (b *balanced) counts() {
	stats := func() *listeners.Stats {
		return must[*listeners.Stats](b)(listeners.GetStats(b.Context(), b.c.balancer, b.listener).Extract())
	}
	before, since := stats(), time.Now()
	await(b.T, "what went before to be counted", func() bool {
		if now := stats(); *now != *before {
			before, since = now, time.Now()
		}
		return time.Since(since) > 6*time.Second // nodes tell every 5
	})
	b.tally(20, b.space("client"), b.vip())
	var now *listeners.Stats
	await(b.T, "20 connections to be counted", func() bool { now = stats(); return now.TotalConnections >= before.TotalConnections+20 })
	if now.TotalConnections != before.TotalConnections+20 || now.BytesIn <= before.BytesIn || now.BytesOut <= before.BytesOut {
		b.Errorf("before %+v, after 20 requests %+v", before, now)
	}
	if whole := must[*loadbalancers.Stats](b)(loadbalancers.GetStats(b.Context(), b.c.balancer, b.lb.ID).Extract()); whole.TotalConnections < now.TotalConnections {
		b.Errorf("in all %+v, its listener %+v", whole, now)
	}
}

// udp has a listener, a pool and a monitor for UDP at the same address.
func (b *balanced) udp() {
	ctx := b.Context()
	l := must[*listeners.Listener](b)(listeners.Create(ctx, b.c.balancer, listeners.CreateOpts{LoadbalancerID: b.lb.ID, Name: "dns", Protocol: listeners.ProtocolUDP, ProtocolPort: 53}).Extract())
	b.settled()
	p := must[*pools.Pool](b)(pools.Create(ctx, b.c.balancer, pools.CreateOpts{ListenerID: l.ID, Protocol: pools.ProtocolUDP, LBMethod: pools.LBMethodRoundRobin}).Extract())
	b.pool = p.ID
	b.settled()
	for _, name := range []string{"one", "two"} {
		must[*pools.Member](b)(pools.CreateMember(ctx, b.c.balancer, p.ID, pools.CreateMemberOpts{Name: name, Address: b.address(name, "front"), ProtocolPort: 5353, SubnetID: b.subs["front"]}).Extract())
		b.settled()
	}
	stopA := b.echo("one")
	defer stopA()
	end := b.monitored(monitors.CreateOpts{Type: "UDP-CONNECT"})
	b.are(map[string]string{"one": "ONLINE", "two": "ERROR"})
	stopB := b.echo("two")
	b.are(map[string]string{"one": "ONLINE", "two": "ONLINE"})
	client := b.space("client")
	got := map[string]int{}
	for range 8 {
		got[b.say(client)]++
	}
	if got["one"] != 4 || got["two"] != 4 {
		b.Errorf("by UDP: %v", got)
	}
	stopB()
	b.are(map[string]string{"one": "ONLINE", "two": "ERROR"})
	for range 4 {
		if who := b.say(client); who != "one" {
			b.Errorf("without two %q answers", who)
		}
	}
	end()
	b.done(pools.Delete(ctx, b.c.balancer, p.ID).ExtractErr())
	b.done(listeners.Delete(ctx, b.c.balancer, l.ID).ExtractErr())
}

// echo answers datagrams in a container's place.
func (b *balanced) echo(name string) (stop func()) {
	b.Helper()
	var conn net.PacketConn
	if err := b.space(name).Do(func() (err error) { conn, err = net.ListenPacket("udp4", ":5353"); return err }); err != nil {
		b.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 64); ; {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(name), from)
		}
	}()
	return func() { conn.Close() }
}

// say sends a datagram from a port of its own, and gives the answer.
func (b *balanced) say(ns *netns.NS) string {
	b.Helper()
	var conn net.Conn
	if err := ns.Do(func() (err error) { conn, err = net.Dial("udp", b.lb.VipAddress+":53"); return err }); err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fprint(conn, "?"); err != nil {
		b.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		b.Fatalf("asking by UDP: %v", err)
	}
	return string(buf[:n])
}

// gone deletes everything at once, and looks for what is left.
func (b *balanced) gone() {
	ctx := b.Context()
	if err := loadbalancers.Delete(ctx, b.c.balancer, b.lb.ID, loadbalancers.DeleteOpts{}).ExtractErr(); !gophercloud.ResponseCodeIs(err, 400) {
		b.Errorf("deleting one that has a listener: %v", err)
	}
	if err := loadbalancers.Delete(ctx, b.c.balancer, b.lb.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
		b.Fatal(err)
	}
	if _, err := ports.Get(ctx, b.c.network, b.lb.VipPortID).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		b.Errorf("its port: %v", err)
	}
	if fip := must[*floatingips.FloatingIP](b)(floatingips.Get(ctx, b.c.network, b.fip.ID).Extract()); fip.PortID != "" {
		b.Errorf("its floating IP leads to %s", fip.PortID)
	}
	for _, what := range []string{"listeners", "pools", "healthmonitors"} {
		var list map[string][]any
		if _, err := b.c.balancer.Get(ctx, b.c.balancer.ServiceURL("lbaas", what), &list, nil); err != nil || len(list[what]) != 0 {
			b.Errorf("%s: %v, %v", what, list, err)
		}
	}
	await(b.T, "its namespaces to be gone", func() bool { return len(b.spaces(b.All[0]))+len(b.spaces(b.All[1])) == 0 })
}
