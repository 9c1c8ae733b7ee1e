package dataplane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/balancer"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/node/balance"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// balancing is the control plane of one node's load balancers.
type balancing struct {
	wanted chan []nodeapi.LoadBalancer
	mu     sync.Mutex
	said   map[string]nodeapi.LoadBalancerStatus
}

func (b *balancing) LoadBalancers(ctx context.Context) <-chan []nodeapi.LoadBalancer {
	out := make(chan []nodeapi.LoadBalancer)
	go func() {
		defer close(out)
		for {
			select {
			case l := <-b.wanted:
				out <- l
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (b *balancing) ReportLoadBalancers(_ context.Context, list []nodeapi.LoadBalancerStatus) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = map[string]nodeapi.LoadBalancerStatus{}
	for _, s := range list {
		b.said[s.ID] = s
	}
	return nil
}

func (b *balancing) of(id string) nodeapi.LoadBalancerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said[id]
}

// run starts an agent; the function that it gives ends it.
func (b *balancing) run(w *world) func() {
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	a := balance.New(b, &balancer.Kernel{Name: w.name, Plug: w.Plane.Veth}, "n1", slog.New(slog.DiscardHandler))
	go func() { defer close(done); a.Run(ctx) }()
	return func() { cancel(); <-done }
}

const vip = "10.0.1.9"

// balanced is a load balancer at vip with the servers 10.0.1.10 and .11 at port 7000.
func balanced(gen int64) nodeapi.LoadBalancer {
	m := func(last int) nodeapi.LBMember {
		a := netip.AddrFrom4([4]byte{10, 0, 1, byte(last)})
		return nodeapi.LBMember{ID: fmt.Sprintf("m%d", last), Addr: a, Port: 7000, Weight: 1, MonitorAddr: a, MonitorPort: 7000}
	}
	p := port(1, 1, 9)
	return nodeapi.LoadBalancer{ID: "lb1", Gen: gen,
		Port:      nodeapi.ContainerPort{ID: p.ID, MAC: p.MAC, MTU: 1400, Addrs: []netip.Prefix{netip.MustParsePrefix(vip + "/24")}, Gateways: []netip.Addr{netip.MustParseAddr("10.0.1.1")}},
		Listeners: []nodeapi.LBListener{{ID: "l1", Protocol: "tcp", Port: 80, Limit: -1, PoolID: "p1"}},
		Pools: []nodeapi.LBPool{{ID: "p1", Protocol: "tcp", Algorithm: nodeapi.LBLeastConns, Members: []nodeapi.LBMember{m(10), m(11)},
			Monitor: &nodeapi.LBMonitor{ID: "hm1", Type: "TCP", Delay: 1, Timeout: 1, Rise: 1, Fall: 1}}}}
}

// TestLoadBalancer runs one on a port of a tenant's network: from its own network, from
// another one behind a router, and from outside by a floating IP; with a server that comes
// late; while the agent and the data plane are away; and its end.
func TestLoadBalancer(t *testing.T) {
	w := newWorld(t)
	w.state = twoTenants()
	w.state.Ports = append(w.state.Ports, port(1, 1, 11, "open"))
	p := port(1, 1, 9)
	p.DeviceID, p.DeviceOwner, p.PortSecurity, p.DNSName = "lb-lb1", "Octavia", false, ""
	w.state.Ports = append(w.state.Ports, p)
	w.state.Routers[0].FloatingIPs = append(w.state.Routers[0].FloatingIPs, floating("fiplb", 60, 1, 9))
	b := &balancing{wanted: make(chan []nodeapi.LoadBalancer)}
	stop := b.run(w)
	defer func() { stop() }()
	b.wanted <- []nodeapi.LoadBalancer{balanced(1)} // before the data plane knows the port
	w.apply()
	one, two, far := w.boot(portID(1, 1, 10)), w.boot(portID(1, 1, 11)), w.boot(portID(1, 2, 20))
	for _, g := range []*guest{one, two, far} {
		g.dhcp()
	}
	one.serve(7000)
	w.eventually("the first member is up, the second is not", func() bool {
		s := b.of("lb1")
		return s.Gen == 1 && s.Members["m10"] == nodeapi.LBMemberUp && s.Members["m11"] == nodeapi.LBMemberDown
	})
	if !w.up(p.ID) {
		t.Error("the port is not reported")
	}
	ask := func(ns *netns.NS, addr string) (net.Conn, string) {
		t.Helper()
		var c net.Conn
		err := ns.Do(func() (err error) { c, err = net.DialTimeout("tcp", addr, 2*time.Second); return err })
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		t.Cleanup(func() { c.Close() })
		w.must(c.SetDeadline(time.Now().Add(10 * time.Second)))
		line, err := bufio.NewReader(c).ReadString('\n')
		w.must(err)
		return c, line
	}
	host, err := netns.Current()
	w.must(err)
	defer host.Close()
	for what, from := range map[string]*netns.NS{vip + ":80": far.ns, "172.24.4.60:80": host} {
		if _, line := ask(from, what); !strings.HasPrefix(line, vip+":") {
			t.Errorf("by %s the member sees %q", what, line)
		}
	}
	kept, _ := ask(one.ns, vip+":80") // which answers itself

	two.serve(7000)
	w.eventually("the second member is up", func() bool { return b.of("lb1").Members["m11"] == nodeapi.LBMemberUp })
	w.eventually("new connections go to it, which has fewer", func() bool {
		_, _ = ask(far.ns, vip+":80")
		ns, err := netns.Open(w.name + balancer.Infix + "lb1")
		w.must(err)
		busy, err := (&balancer.Balancer{NS: ns}).Busy(ptr(balanced(1)))
		w.must(errors.Join(err, ns.Close()))
		return busy["m11"] >= 1 && busy["l1"] == busy["m10"]+busy["m11"]
	})
	w.eventually("traffic is counted", func() bool { x := b.of("lb1").Listeners["l1"]; return x.Total >= 4 && x.BytesOut > 0 })

	stop()
	w.must(w.Plane.Close())
	if _, err := fmt.Fprintln(kept, "still there"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(kept).ReadString('\n'); err != nil || line != "still there\n" {
		t.Errorf("while nobody watches: %q, %v", line, err)
	}
	w.open()
	w.apply()
	stop = b.run(w)
	b.wanted <- []nodeapi.LoadBalancer{balanced(2)}
	w.eventually("it is taken over", func() bool { s := b.of("lb1"); return s.Gen == 2 && len(s.Members) == 2 })
	if _, err := fmt.Fprintln(kept, "and now"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(kept).ReadString('\n'); err != nil || line != "and now\n" {
		t.Errorf("after the agent is back: %q, %v", line, err)
	}
	bad := balanced(3)
	bad.Listeners[0].PoolID = "none"
	b.wanted <- []nodeapi.LoadBalancer{bad}
	w.eventually("what cannot be is told", func() bool { s := b.of("lb1"); return s.Gen == 2 && s.Fault != "" })
	b.wanted <- nil
	w.state.Ports = slices.DeleteFunc(w.state.Ports, func(x nodeapi.Port) bool { return x.ID == p.ID })
	w.apply()
	w.eventually("it is gone", func() bool {
		left, err := netns.List(w.name + balancer.Infix)
		w.must(err)
		return len(left) == 0
	})
}

func ptr[T any](v T) *T { return &v }
