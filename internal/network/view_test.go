package network

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestViewIsNetState makes random changes and holds what a node was told by parts
// against its state derived anew.
func TestViewIsNetState(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { viewIsNetState(t, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func viewIsNetState(t *testing.T, rng *rand.Rand) {
	w, nodes, router := wide(t)
	w.s.Spacing = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ids := []string{"n1", "n2", "n3"}
	latest := map[string]<-chan nodeapi.NetState{}
	told := map[string]nodeapi.NetState{}
	for _, id := range ids {
		latest[id] = w.s.Watch(ctx, id)
	}
	same := func(step string) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for _, id := range ids {
			for {
				want := w.s.NetState(id)
				have := told[id]
				want.Gen, have.Gen = 0, 0
				a, b := stateText(t, want), stateText(t, have)
				if a == b {
					break
				}
				select {
				case told[id] = <-latest[id]:
				case <-limit:
					t.Fatalf("after %s, %s was told\n%s\nand should have\n%s", step, id, b, a)
				}
			}
		}
	}
	same("the start")
	networks := w.s.networks.By("project", "p1")
	group := w.s.groups.By("project", "p1")[0].ID
	var ports []string
	for i := range 40 {
		step := ""
		n := networks[rng.IntN(len(networks))].ID
		switch k := rng.IntN(11); {
		case k < 3 || len(ports) == 0:
			id := uuid.NewString()
			step = "a port"
			if _, err := w.s.EnsurePort(ctx, PortSpec{ID: id, NetworkID: n, ProjectID: "p1", Server: "s" + id, Host: ids[rng.IntN(3)]}); err != nil {
				t.Fatal(err)
			}
			ports = append(ports, id)
		case k == 3:
			step = "the end of a port"
			if err := w.s.ReleasePort(ctx, ports[0], false); err != nil {
				t.Fatal(err)
			}
			ports = ports[1:]
		case k == 4:
			step = "a port that moves"
			id := ports[rng.IntN(len(ports))]
			p, err := w.s.ports.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.s.EnsurePort(ctx, PortSpec{ID: id, NetworkID: p.NetworkID, ProjectID: "p1", Server: p.DeviceID, Host: ids[rng.IntN(3)]}); err != nil {
				t.Fatal(err)
			}
		case k == 5:
			step = "a rule"
			w.make("alice", "security_group_rule", "/security-group-rules",
				`"security_group_id":"%s","direction":"ingress","protocol":"tcp","port_range_min":%d,"port_range_max":%d`, group, i+1, i+1)
		case k == 6:
			step = "a network that leaves the router, or joins it"
			sub := w.s.subnets.By("network", n)[0].ID
			verb := "remove_router_interface"
			if len(w.s.ports.By("leg", n)) == 0 {
				verb = "add_router_interface"
			}
			w.want(200, "alice", "PUT", "/routers/"+router+"/"+verb, `{"subnet_id":"`+sub+`"}`)
		case k == 7:
			step = "a node that is lost, or back"
			nodes.mu.Lock()
			lost := nodes.lost["n2"]
			nodes.mu.Unlock()
			nodes.lose("n2", !lost, time.Minute)
			w.s.NetState("n1") // notices
			nodes.lose("n2", !lost, time.Minute)
		case k == 8:
			step = "a server of a cluster"
			id := uuid.NewString()
			if _, err := w.s.EnsureClusterPort(ctx, ClusterPort{ID: id, NetworkID: n, ProjectID: "p1", Cluster: "c", Node: id, Server: true}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.s.EnsurePort(ctx, PortSpec{ID: id, ProjectID: "p1", Server: "s" + id, Host: ids[rng.IntN(3)], Existing: true}); err != nil {
				t.Fatal(err)
			}
			ports = append(ports, id)
		case k == 9:
			step = "a pod on each, or the end of those"
			for _, gate := range w.s.ports.By("worker", "c") {
				if err := w.s.DropClusterPorts(ctx, "c", gate.ID, func(_ string, pod bool) bool { return pod && i%2 == 0 }); err != nil {
					t.Fatal(err)
				}
				if i%2 == 0 {
					continue
				}
				if _, err := w.s.EnsureClusterPort(ctx, ClusterPort{ID: uuid.NewString(), NetworkID: gate.NetworkID, ProjectID: "p1", Cluster: "c", Node: gate.ID, Behind: gate.ID}); err != nil {
					t.Fatal(err)
				}
			}
		default:
			step = "a name server"
			w.want(200, "alice", "PUT", "/subnets/"+w.s.subnets.By("network", n)[0].ID, fmt.Sprintf(`{"subnet":{"dns_nameservers":["192.0.2.%d"]}}`, i+1))
		}
		same(fmt.Sprintf("step %d, %s", i, step))
	}
}

func stateText(t *testing.T, st nodeapi.NetState) string {
	t.Helper()
	raw, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestViewSpacing: changes elsewhere come together, one here comes at once.
func TestViewSpacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const spacing = time.Second
		v := (&Service{}).newNodeView("n1")
		begin := time.Now()
		v.mark(func(d *dirt) { d.reach = true })
		if !v.settle(t.Context(), begin.Add(spacing)) || time.Since(begin) != spacing {
			t.Errorf("a change elsewhere came after %s", time.Since(begin))
		}
		begin = time.Now()
		v.mark(func(d *dirt) { d.urgent = true })
		if !v.settle(t.Context(), begin.Add(spacing)) || time.Since(begin) != 0 {
			t.Errorf("a change here came after %s", time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		v.take()
		cancel()
		if v.settle(ctx, time.Now().Add(spacing)) {
			t.Error("it goes on after the end")
		}
	})
}
