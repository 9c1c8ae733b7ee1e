package volume

import (
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/volume/block"
)

// A volume in a pool that several nodes reach is worked on by the node whose server
// has it open, or by the one that made it, or when those are away by any other.
func TestSharedPool(t *testing.T) {
	const pool, other = "rbd:8a7d6b1e-0000-4000-8000-000000000001/volumes", "rbd:8a7d6b1e-0000-4000-8000-000000000002/volumes"
	w := newWorld(t, saga.Options{})
	agents := map[string]*nodestest.Agent{}
	for id, shared := range map[string]string{"maker": pool, "peer": pool, "stranger": other} {
		agents[id] = &nodestest.Agent{Info: nodeapi.NodeInfo{ID: id, Host: id, SharedPools: []string{shared}}}
		if err := agents[id].Register(t.Context(), w.db, w.svc.Nodes); err != nil {
			t.Fatal(err)
		}
	}
	v := &block.Volume{ID: "v", Driver: "rbd", Pool: "volumes", Node: "maker"}
	at := &block.Attachment{ID: "a", VolumeID: "v", Compute: true, Host: "peer", Status: block.AttachAttached}
	asked := func(want string) {
		t.Helper()
		st, err := w.svc.Storage(v)
		if want == "" {
			if err == nil {
				t.Error("a node works on a volume that it does not reach")
			}
			return
		}
		if err != nil || st != agents[want] {
			t.Errorf("asked %v (%v), want %s", st, err, want)
		}
	}
	asked("maker")
	if err := w.svc.Attachments.Create(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	asked("peer")
	w.svc.Nodes.Connect("peer", nil)
	asked("maker")
	w.svc.Nodes.Connect("maker", nil)
	asked("")
	w.svc.Nodes.Connect("peer", agents["peer"])
	asked("peer")
	v.Driver, v.Pool = "local", "volumes"
	asked("")
}
