package network

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestWatch follows a node's state: a change of it arrives, a port's status does
// not count as one.
func TestWatch(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	net := w.net("alice", `"name":"n"`)
	w.sub("alice", net, "10.0.0.0/24", "")
	states := w.s.Watch(ctx, "n1")
	until := func(what string, cond func(nodeapi.NetState) bool) {
		t.Helper()
		for st := range states {
			if cond(st) {
				return
			}
		}
		t.Fatalf("waited in vain for %s", what)
	}
	if _, err := w.s.EnsurePort(ctx, PortSpec{ID: absent, NetworkID: net, ProjectID: "p1", Server: "s", Host: "n1"}); err != nil {
		t.Fatal(err)
	}
	until("the port", func(st nodeapi.NetState) bool {
		return len(st.Ports) == 1 && st.Ports[0].Local && len(st.SecurityGroups) == 1
	})
	if err := w.s.ReportPorts(ctx, "n1", []nodeapi.PortStatus{{PortID: absent, Up: true}}); err != nil {
		t.Fatal(err)
	}
	g := w.s.groups.By("project", "p1")[0].ID
	w.make("alice", "security_group_rule", "/security-group-rules", `"security_group_id":"%s","direction":"ingress","protocol":"tcp","port_range_min":22,"port_range_max":22`, g)
	st := <-states
	if n := len(st.SecurityGroups[0].Rules); n != 5 {
		t.Errorf("the next state has %d rules: the port's status was taken for a change", n)
	}
	if err := w.s.ReleasePort(ctx, absent, false); err != nil {
		t.Fatal(err)
	}
	until("the end of the port", func(st nodeapi.NetState) bool { return len(st.Networks) == 0 })
}

// TestBootstrap runs twice, then after its network was deleted: that stays deleted.
func TestBootstrap(t *testing.T) {
	w, ctx := start(t), context.Background()
	o := BootstrapOptions{AdminProject: "adm", DemoProject: "p1", PublicCIDR: netip.MustParsePrefix("203.0.113.0/24")}
	for range 2 {
		if err := w.s.Bootstrap(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	if w.s.networks.Len() != 2 || w.s.routers.Len() != 1 || w.s.rules.Len() != 6 {
		t.Fatalf("%d networks, %d routers, %d rules", w.s.networks.Len(), w.s.routers.Len(), w.s.rules.Len())
	}
	ids, err := w.s.Available(ctx, users["alice"])
	if err != nil || len(ids) != 1 {
		t.Fatalf("%v %v", ids, err)
	}
	for who, kind := range map[string]errs.Kind{"alice": -1, "bob": errs.NotFound} {
		if err := w.s.Usable(ctx, users[who], ids[0]); kind < 0 && err != nil || kind >= 0 && !errs.Is(err, kind) {
			t.Errorf("%s: %v", who, err)
		}
	}
	r := w.s.routers.All()[0].ID
	w.want(200, "alice", "PUT", "/routers/"+r+"/remove_router_interface", `{"subnet_id":"`+w.s.subnets.By("network", ids[0])[0].ID+`"}`)
	w.want(204, "alice", "DELETE", "/networks/"+ids[0], nil)
	if err := w.s.Bootstrap(ctx, o); err != nil || w.s.networks.Len() != 1 {
		t.Errorf("%d networks %v", w.s.networks.Len(), err)
	}
}
