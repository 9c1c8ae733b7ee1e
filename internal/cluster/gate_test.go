package cluster

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/saga"
)

// TestGate has control planes told of their place in the network and of the machines that
// work for them, also those that were made before there were gates.
func TestGate(t *testing.T) {
	w, ctx := newWorld(t, saga.Options{}).start(), t.Context()
	id := w.made(`,"name":"one","node_count":4`) // the member is one of them
	c, err := w.svc.clusters.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	control := func() (gate string, machines []netip.Addr) {
		for _, p := range w.svc.Parts(c.Member) {
			if p.Control.Gate != nil {
				gate = p.Control.Gate.ID
			}
			machines = p.Control.Machines
		}
		return gate, machines
	}
	port := w.nets.ports[c.Gate]
	if !port.Gate || port.Node != c.Member || port.Cluster != id || port.ProjectID != project1 || port.NetworkID != c.Network.ID {
		t.Errorf("the port is %+v", port)
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")}
	if gate, machines := control(); gate != c.Gate || !slices.Equal(machines, want) {
		t.Errorf("the control plane is told %s, %v", gate, machines)
	}
	w.do("owner", "1.11", "POST", "/clusters/"+id+"/actions/resize", `{"node_count":1,"nodes_to_remove":["node-1"]}`).want(202)
	w.settled()
	if gate, machines := control(); gate != c.Gate || len(machines) != 1 || machines[0] == want[0] {
		t.Errorf("after the member is no worker any more the control plane is told %s, %v", gate, machines)
	}
	w.clean(t)

	// One of an earlier time.
	if err := w.svc.dropGate(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := w.svc.clusters.Update(ctx, id, func(c *Cluster) error { c.Gate = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	if gate, _ := control(); gate != "" {
		t.Fatalf("the control plane has the gate %s", gate)
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); w.svc.gates.Run(run) }()
	w.until("a gate for the older cluster", func() bool { gate, _ := control(); return gate == c.Gate })
	stop()
	<-ended
	w.clean(t)

	// One that is deleted meanwhile gets none.
	w.do("owner", "1.11", "DELETE", "/clusters/"+id, "").want(204)
	w.settled()
	c.Gate = ""
	if err := w.svc.openGate(ctx, c); err != nil {
		t.Error(err)
	}
	if networks, ports := w.nets.count(); networks+ports != 0 {
		t.Errorf("there are left %d networks, %d ports", networks, ports)
	}
}
