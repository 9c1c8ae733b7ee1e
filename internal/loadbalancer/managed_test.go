package loadbalancer

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

func (w *world) managed(m Managed) *ManagedState {
	w.Helper()
	st, err := w.s.EnsureManaged(w.Context(), m)
	if err != nil {
		w.Fatal(err)
	}
	return st
}

// TestManaged keeps a load balancer as another service wants it, whatever users do to it.
func TestManaged(t *testing.T) {
	w := start(t)
	m := Managed{ID: "11111111-0000-4000-8000-000000000000", ProjectID: "p1", Owner: "c1", Name: "kube_service_c_default_web", Description: "Kubernetes external service default/web from cluster c",
		NetworkID: w.network, At: []nodeapi.FixedIP{{SubnetID: w.subnet}}}
	pool := ManagedPool{Algorithm: "ROUND_ROBIN", Transparent: true, Monitor: &ManagedMonitor{Path: "/healthz", Delay: 3, Timeout: 2, Rise: 1, Fall: 2},
		Members: []ManagedMember{{Name: "n1", Address: "10.0.0.11", Port: 30080, MonitorPort: 10256}, {Name: "n2", Address: "10.0.0.12", Port: 30080, MonitorPort: 10256}}}
	m.Listeners = []ManagedListener{{Name: "http", Protocol: "TCP", Port: 80, Allowed: []string{"10.0.0.0/8"}, Pool: pool}, {Name: "dns", Protocol: "UDP", Port: 80, Pool: pool}}
	st := w.managed(m)
	if st.Serves || len(st.At) != 1 {
		t.Errorf("made: %+v", st)
	}
	w.settle()
	if !w.managed(m).Serves {
		t.Error("it does not serve")
	}
	gen := func() int64 {
		t.Helper()
		lb, err := w.s.lbs.Get(m.ID)
		if err != nil {
			t.Fatal(err)
		}
		return lb.Gen
	}
	if gen() != 1 {
		t.Errorf("repeating it made generation %d", gen())
	}
	w.status("/loadbalancers/"+m.ID, "ACTIVE", "ONLINE")
	on := append(w.s.On("n1"), w.s.On("n2")...)
	if len(on) != 1 || len(on[0].Listeners) != 2 || len(on[0].Pools) != 2 || !on[0].Pools[0].Transparent || len(on[0].Pools[1].Members) != 2 || on[0].Pools[0].Members[0].MonitorPort != 10256 || on[0].Pools[0].Monitor.Path != "/healthz" {
		t.Errorf("a node is told %+v", on)
	}
	// A member goes: it, its pool and the load balancer change, and nothing else.
	lb, _ := w.s.lbs.Get(m.ID)
	stays := lb.Pools[0].Members[0].ID
	m.Listeners[0].Pool.Members = pool.Members[:1]
	w.managed(m)
	now, _ := w.s.lbs.Get(m.ID)
	if now.Gen != 2 || now.Pools[0].Gen != 2 || len(now.Pools[0].Members) != 1 || now.Pools[0].Members[0].ID != stays || now.Pools[0].Members[0].Gen != 1 || now.Pools[1].Gen != 1 || now.Listeners[0].Gen != 1 || now.Pools[0].Members[0].Created.IsZero() {
		t.Errorf("%+v, %+v", now, now.Pools[0])
	}
	w.settle()
	// What users change goes back.
	w.want(200, "alice", "PUT", "/loadbalancers/"+m.ID, `{"loadbalancer":{"name":"mine","admin_state_up":false,"tags":["x"]}}`)
	w.settle()
	w.want(204, "alice", "DELETE", "/listeners/"+now.Listeners[1].ID, "")
	w.settle()
	w.want(201, "alice", "POST", "/listeners", `{"listener":{"protocol":"TCP","protocol_port":99,"loadbalancer_id":"%s"}}`, m.ID)
	w.settle()
	w.managed(m)
	w.settle()
	v := w.get("/loadbalancers/" + m.ID)
	if v["name"] != m.Name || v["admin_state_up"] != true || len(v["listeners"].([]any)) != 2 || len(v["tags"].([]any)) != 1 {
		t.Errorf("%+v", v)
	}
	w.want(204, "alice", "DELETE", "/loadbalancers/"+m.ID+"?cascade=true", "")
	if st := w.managed(m); st.Serves {
		t.Error("one that was made again serves at once")
	}
	m.At[0].Addr = netip.MustParseAddr("10.0.0.77")
	if st := w.managed(m); st.At[0] != m.At[0].Addr || len(w.ports()) != 1 {
		t.Errorf("another address: %+v, ports %v", st, w.ports())
	}
}

// TestManagedLimits holds it to quotas and to who it is for, and removes what it was for.
func TestManagedLimits(t *testing.T) {
	w := start(t)
	id := "11111111-0000-4000-8000-00000000000"
	m := Managed{ID: id + "0", ProjectID: "p1", Owner: "c1", NetworkID: w.network, At: []nodeapi.FixedIP{{SubnetID: w.subnet}}, Listeners: []ManagedListener{{Protocol: "TCP", Port: 80, Pool: ManagedPool{Algorithm: "ROUND_ROBIN"}}}}
	no := errors.New("no")
	m.Guard = func(*store.Tx) error { return no }
	if _, err := w.s.EnsureManaged(t.Context(), m); !errors.Is(err, no) || len(w.ports()) != 0 {
		t.Errorf("%v, ports %v", err, w.ports())
	}
	m.Guard = nil
	w.want(202, "admin", "PUT", "/quotas/p1", `{"quota":{"listener":1}}`)
	w.managed(m)
	m.ID = id + "1"
	if _, err := w.s.EnsureManaged(t.Context(), m); !errs.Is(err, errs.QuotaExceeded) || len(w.ports()) != 1 {
		t.Errorf("%v, ports %v", err, w.ports())
	}
	w.want(202, "admin", "DELETE", "/quotas/p1", "")
	w.managed(m)
	other := w.balancer()
	if err := w.s.RemoveManaged(t.Context(), "c1", m.ID); err != nil {
		t.Fatal(err)
	}
	w.want(404, "alice", "GET", "/loadbalancers/"+id+"0", "")
	w.want(200, "alice", "GET", "/loadbalancers/"+m.ID, "")
	for range 2 {
		if err := w.s.RemoveManaged(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
	}
	w.want(200, "alice", "GET", "/loadbalancers/"+other, "")
	if len(w.ports()) != 1 {
		t.Errorf("ports: %v", w.ports())
	}
}
