package network

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func BenchmarkNetworkCreate(b *testing.B) {
	w := start(b)
	w.want(200, "admin", "PUT", "/quotas/p1", `{"quota":{"network":-1}}`)
	for b.Loop() {
		w.want(201, "alice", "POST", "/networks", `{"network":{"name":"n"}}`)
	}
}

func BenchmarkPortCreate(b *testing.B) {
	w := start(b)
	w.want(200, "admin", "PUT", "/quotas/p1", `{"quota":{"port":-1}}`)
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/8", "")
	for b.Loop() {
		w.want(201, "alice", "POST", "/ports", `{"port":{"network_id":"`+net+`"}}`)
	}
}

func many(b *testing.B) *world {
	w := start(b)
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/16", "")
	for i := range 498 {
		w.want(201, "alice", "POST", "/ports", fmt.Sprintf(`{"port":{"network_id":"%s","name":"p%d"}}`, net, i))
	}
	return w
}

func BenchmarkPortList500(b *testing.B) {
	w := many(b)
	for b.Loop() {
		w.want(200, "alice", "GET", "/ports", nil)
	}
}

func BenchmarkNetState500(b *testing.B) {
	w := many(b)
	net := w.s.networks.All()[0].ID
	if _, err := w.s.EnsurePort(b.Context(), PortSpec{ID: absent, NetworkID: net, ProjectID: "p1", Server: "s", Host: "n1"}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if st := w.s.NetState("n1"); len(st.Ports) != 499 {
			b.Fatalf("%d ports", len(st.Ports))
		}
	}
}

// BenchmarkPortOn100Nodes makes ports in a network of 500 ports that 100 nodes have; at
// the end all of them know.
func BenchmarkPortOn100Nodes(b *testing.B) {
	const nodes = 100
	w := startWith(b, Options{Nodes: farm(nodes)})
	w.want(200, "admin", "PUT", "/quotas/p1", `{"quota":{"port":-1}}`)
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/8", "")
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ports := 0
	add := func() {
		id := uuid.NewString()
		if _, err := w.s.EnsurePort(ctx, PortSpec{ID: id, NetworkID: net, ProjectID: "p1", Server: "s" + id, Host: fmt.Sprint("n", ports%nodes)}); err != nil {
			b.Fatal(err)
		}
		ports++
	}
	for range 500 {
		add()
	}
	total := ports + b.N
	var ready, done sync.WaitGroup
	for i := range nodes {
		ready.Add(1)
		done.Go(func() {
			heard, first := map[string]bool{}, sync.OnceFunc(ready.Done)
			for c := range w.s.Changes(ctx, fmt.Sprint("n", i)) {
				for _, p := range c.Ports {
					heard[p.ID] = true
				}
				if first(); len(heard) == total {
					return
				}
			}
		})
	}
	ready.Wait()
	b.ResetTimer()
	for range b.N {
		add()
	}
	done.Wait()
}

// farm is many nodes.
type farm int

func (f farm) Hosts() []Host {
	out := make([]Host, f)
	for i := range out {
		id := fmt.Sprint("n", i)
		out[i] = Host{ID: id, Name: id, Alive: true, Tunnel: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
	}
	return out
}
