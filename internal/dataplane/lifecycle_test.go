package dataplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestRestartKeepsFlows(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	w.apply()
	g := w.boot(portID(1, 1, 10))
	g.dhcp()
	g.serve(7000)
	c, err := net.DialTimeout("tcp", "172.24.4.51:7000", 3*time.Second)
	w.must(err)
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	w.must(w.Plane.Close())
	if !echoes(c, r, "while it is down") {
		t.Fatal("a connection did not survive Close")
	}
	if _, err := w.Plane.Tap(t.Context(), portID(1, 1, 10)); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("Tap of a closed plane: %v", err)
	}
	w.open()
	// Meanwhile tenant 2 has gone.
	w.state.Networks = w.state.Networks[:3]
	w.state.Ports, w.state.Routers = w.state.Ports[:2], w.state.Routers[:1]
	// The rules no longer admit a new connection, so only state can save the old one.
	w.state.SecurityGroups = []nodeapi.SecurityGroup{group("open")}
	w.apply()
	if !echoes(c, r, "after the restart") {
		t.Fatal("a connection did not survive the restart")
	}
	names, err := netns.List(w.name + "-qr-")
	w.must(err)
	if !slices.Equal(names, []string{w.name + "-qr-router1-0000"}) {
		t.Errorf("namespaces after the restart: %v", names)
	}
	if _, err := g.get("http://169.254.169.254/"); err != nil {
		t.Errorf("metadata after the restart: %v", err)
	}
	if !w.up(portID(1, 1, 10)) {
		t.Error("an adopted port is not reported up")
	}
}

// traces lists what a Plane could leave on a host.
func traces(t *testing.T, name string) string {
	var b strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-o", "addr"}, {"ip", "route"}, {"nft", "list", "ruleset"},
		{"sysctl", "net.ipv4.ip_forward"}, {"find", "/run/netns", "/run/strata", "-name", name + "*"},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil && args[0] != "find" { // which fails when a directory is absent
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, "find:") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

func TestResetLeavesNothing(t *testing.T) {
	w := newWorld(t)
	before := traces(t, w.name)
	w.state = twoTenants()
	w.apply()
	g := w.boot(portID(1, 1, 10))
	if during := traces(t, w.name); !strings.Contains(during, "net.ipv4.ip_forward = 1") || !strings.Contains(during, "strata-"+w.name) {
		t.Fatalf("the plane made nothing: %s", during)
	}
	g.close()
	w.must(w.Plane.Close())
	w.must(Reset(t.Context(), w.name)) // needs no Plane
	if after := traces(t, w.name); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	w.must(Reset(t.Context(), w.name))
	w.open()
	w.apply() // and a new start works
}

func TestBadObjectsHurtNobodyElse(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	w.state.Ports[0].MAC = `"; flush ruleset`
	w.state.Networks[4].ID = "x { y"
	w.state.Routers[1].Interfaces[0].NetworkID = "absent-network"
	w.state.Networks[3].Endpoints = []nodeapi.Endpoint{{MAC: "} drop"}}
	w.state.Gen = 1
	err := w.Plane.Apply(t.Context(), w.state)
	for _, want := range []string{portID(1, 1, 10), "x { y", "absent-network", "} drop"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
	w.boot(portID(1, 2, 20)).dhcp()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Plane.Tap(ctx, portID(1, 1, 10)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("tap of a refused port: %v", err)
	}
	if _, err := w.Plane.Tap(t.Context(), portID(1, 2, 20)); errs.KindOf(err) != errs.Conflict {
		t.Errorf("second tap of a port: %v", err)
	}
	old := w.state
	old.Gen, old.Ports = 0, nil
	w.must(w.Plane.Apply(t.Context(), old)) // ignored
	if _, ok, _ := w.Plane.lookup(portID(1, 2, 20)); !ok {
		t.Error("an older state was applied")
	}
}

func TestTrace(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	w.apply()
	failing := func() (names []string) {
		for _, h := range w.Plane.Trace(t.Context(), portID(1, 1, 10)) {
			if !h.OK {
				names = append(names, h.Name)
				if h.Fix == "" {
					t.Errorf("%s has no fix", h.Name)
				}
			}
		}
		return names
	}
	if got := failing(); !slices.Equal(got, []string{"tap", "server answers ARP"}) {
		t.Errorf("before the server starts: %q", got)
	}
	g := w.boot(portID(1, 1, 10))
	g.dhcp()
	if got := failing(); len(got) != 0 {
		t.Errorf("of a healthy port: %q", got)
	}
	h, err := w.node.Link()
	w.must(err)
	link, err := h.LinkByName(w.name + "-x")
	w.must(err)
	w.must(h.LinkSetNoMaster(link))
	if got := failing(); !slices.Contains(got, "external gateway answers ARP") {
		t.Errorf("with the host unplugged: %q", got)
	}
	w.must(w.Plane.Apply(t.Context(), w.state)) // the same generation: verify
	if got := failing(); len(got) != 0 {
		t.Errorf("after verifying: %q", got)
	}
}

func BenchmarkApplyOneMorePort(b *testing.B) {
	w := newWorld(b)
	w.state = nodeapi.NetState{Networks: []nodeapi.Network{external(), network(1, 1)}, Routers: []nodeapi.Router{routerOf(1, 1)}}
	remote := ingress(-1, -1, -1)
	remote.RemoteGroupID = "open"
	open := group("open", remote)
	for i := range 200 {
		p := port(1, 1, 20+i, "open")
		w.state.Ports = append(w.state.Ports, p)
		open.Members = append(open.Members, p.FixedIPs[0].Addr)
	}
	w.state.SecurityGroups = []nodeapi.SecurityGroup{open}
	w.apply()
	for b.Loop() {
		p := port(1, 1, 250, "open")
		before := w.state
		w.state.Ports = append(slices.Clone(w.state.Ports), p)
		sg := open
		sg.Members = append(slices.Clone(open.Members), netip.MustParseAddr("10.0.1.250"))
		w.state.SecurityGroups = []nodeapi.SecurityGroup{sg}
		w.apply()
		b.StopTimer()
		before.Gen = w.state.Gen
		w.state = before
		w.apply()
		b.StartTimer()
	}
}

// BenchmarkApplyNode realises a node with 20 networks and routers and 200 ports
// from nothing, and takes it away again.
func BenchmarkApplyNode(b *testing.B) {
	w := newWorld(b)
	full := nodeapi.NetState{Networks: []nodeapi.Network{external()}, SecurityGroups: []nodeapi.SecurityGroup{group("open")}}
	for tenant := 1; tenant <= 5; tenant++ {
		for n := 1; n <= 4; n++ {
			full.Networks = append(full.Networks, network(tenant, n))
			r := routerOf(tenant, n)
			r.ID = fmt.Sprintf("router%d-%d", tenant, n)
			r.Gateway.PortID = fmt.Sprintf("t%dqg%d000-0000", tenant, n)
			r.Gateway.MAC = fmt.Sprintf("fa:16:3e:0%d:e%d:01", tenant, n)
			r.Gateway.Addrs[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 24, 4, byte(100 + 10*tenant + n)}), 24)
			full.Routers = append(full.Routers, r)
			for host := range 10 {
				full.Ports = append(full.Ports, port(tenant, n, 10+host, "open"))
			}
		}
	}
	for b.Loop() {
		gen := w.state.Gen
		w.state = full
		w.state.Gen = gen
		w.apply()
		b.StopTimer()
		w.state = nodeapi.NetState{Gen: w.state.Gen}
		w.apply()
		b.StartTimer()
	}
}

// BenchmarkAdopt verifies a node of 200 ports, as after a restart.
func BenchmarkAdopt(b *testing.B) {
	w := newWorld(b)
	w.state = nodeapi.NetState{Networks: []nodeapi.Network{external(), network(1, 1)}, Routers: []nodeapi.Router{routerOf(1, 1)}}
	for i := range 200 {
		w.state.Ports = append(w.state.Ports, port(1, 1, 20+i, "open"))
	}
	w.apply()
	for b.Loop() {
		w.must(w.Plane.Apply(b.Context(), w.state))
	}
}

// A tap that is made for a port on its way here stays when other things change, until
// the port is local and has gone again, or is unplugged.
func TestTapAheadStays(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	port := w.state.Ports[len(w.state.Ports)-1]
	rest := w.state.Ports[:len(w.state.Ports)-1]
	w.state.Ports = rest
	w.apply()
	f, err := w.Plane.TapAhead(t.Context(), port.ID)
	w.must(err)
	defer f.Close()
	there := func(want bool, when string) {
		t.Helper()
		err := exec.Command("ip", "-n", w.name+"-node", "link", "show", ifname.Tap(port.ID)).Run()
		if (err == nil) != want {
			t.Errorf("%s: the tap is there: %v", when, err == nil)
		}
	}
	w.apply()
	there(true, "after another change")
	w.state.Ports = append(slices.Clone(rest), port)
	w.apply()
	there(true, "once the port is local")
	w.state.Ports = rest
	w.apply()
	there(false, "when the port has gone")
	g, err := w.Plane.TapAhead(t.Context(), port.ID)
	w.must(err)
	defer g.Close()
	w.must(w.Plane.Unplug(t.Context(), port.ID))
	there(false, "unplugged")
}
