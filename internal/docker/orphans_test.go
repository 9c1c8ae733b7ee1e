package docker

import "testing"

// TestOrphans removes the containers of a project that was deleted, and those of a node
// that was taken out of the pool.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	w.nets = []Network{{ID: "n", Name: "n"}}
	w.create("p", "one", `"NetworkMode":"n","Binds":["data:/srv"]`)
	kept := w.create("q", "two", `"NetworkMode":"n"`)
	sweep := func() {
		t.Helper()
		for _, id := range w.s.unfinished() {
			if err := w.s.reconcile(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
	sweep()
	if w.s.containers.Len() != 2 {
		t.Fatalf("%d records", w.s.containers.Len())
	}
	w.deleted = "p"
	sweep()
	if ids := w.node.has(); len(ids) != 1 || ids[0] != kept || w.s.containers.Len() != 1 || len(w.ports) != 1 {
		t.Errorf("the node has %v, there are %d records and %d ports", ids, w.s.containers.Len(), len(w.ports))
	}
	if _, n := w.volumes.count(); n != 0 {
		t.Errorf("%d attachments are left", n)
	}
	w.s.Nodes.Connect("beta", nil)
	if err := w.s.Nodes.Infos.Delete(t.Context(), "beta"); err != nil {
		t.Fatal(err)
	}
	sweep()
	if w.s.containers.Len() != 0 || !w.empty() {
		t.Errorf("%d records are left", w.s.containers.Len())
	}
}
