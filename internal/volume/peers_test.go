package volume

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes/nodestest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/wait"
)

// keeping has node-1 export what it is to, and adds a second node.
func (w *world) keeping() (second *nodestest.Agent) {
	w.t.Helper()
	reg := w.svc.Nodes
	second = &nodestest.Agent{Info: nodeapi.NodeInfo{ID: "node-2", Host: "node-2", Addr: "192.0.2.2"}}
	second.SetPools()
	if err := second.Register(w.t.Context(), w.db, reg); err != nil {
		w.t.Fatal(err)
	}
	a := w.svc.Attach()
	ctx, stop := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for list := range a.Watch(ctx, "node-1") {
			if err := a.Report(ctx, "node-1", nodestest.Exported("192.0.2.1", list)); err != nil && ctx.Err() == nil {
				w.t.Error(err)
			}
		}
	}()
	w.t.Cleanup(func() { stop(); <-done })
	return second
}

// claimed is a volume of node-1 that a server on the host has.
func (w *world) claimed(host string) (volume string, a *attach.Service) {
	w.t.Helper()
	volume, a = w.volume(`"size":1`), w.svc.Attach()
	if _, err := a.Reserve(w.t.Context(), attach.Claim{ID: "at-1", VolumeID: volume, Server: server, Mode: "rw", Compute: true}); err != nil {
		w.t.Fatal(err)
	}
	w.connect(a, host)
	if err := a.Complete(w.t.Context(), "at-1"); err != nil {
		w.t.Fatal(err)
	}
	return volume, a
}

func (w *world) connect(a *attach.Service, host string) *nodeapi.VolumeSource {
	w.t.Helper()
	at, err := a.Connect(w.t.Context(), "at-1", host, "/dev/vdb", "", map[string]any{"host": host})
	if err != nil {
		w.t.Fatal(err)
	}
	src, _, err := a.Source(w.t.Context(), at, host)
	if err != nil {
		w.t.Fatal(err)
	}
	return src
}

// users are who node-1 lets in to the volume.
func (w *world) users() (out []string) {
	for _, e := range w.svc.Attach().Exports("node-1") {
		for _, c := range e.Clients {
			out = append(out, c.Addr)
		}
	}
	return out
}

// A volume is reached by the hosts of its attachment alone: by two while its server
// moves, by none when that is on the volume's own node or gone.
func TestPeers(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	second := w.keeping()
	id, a := w.claimed("node-2")
	ctx := t.Context()
	src := w.connect(a, "node-2")
	if src.Node != "node-1" || src.Remote == nil || !strings.HasPrefix(src.Remote.Addr, "192.0.2.1:") || len(src.Remote.PSK) != 32 || src.Key != nil {
		t.Errorf("source %+v", src)
	}
	if again := w.connect(a, "node-2"); again.Remote.User != src.Remote.User {
		t.Error("connecting again made another key")
	}
	for who, body := range map[string]string{"admin": "/attachments/at-1", "owner": "/volumes/" + id} {
		if raw := string(w.do(who, "3.59", "GET", body, "").want(200).raw); strings.Contains(raw, src.Remote.User) || strings.Contains(raw, "psk") {
			t.Errorf("%s shows a key: %s", body, raw)
		}
	}
	w.do("owner", "3.27", "GET", "/attachments/at-1", "").want(200)

	third := &nodestest.Agent{Info: nodeapi.NodeInfo{ID: "node-3", Host: "node-3", Addr: "192.0.2.3"}}
	if err := third.Register(ctx, w.db, w.svc.Nodes); err != nil {
		t.Fatal(err)
	}
	at, err := a.Admit(ctx, "at-1", "node-3")
	if err != nil || at.Host != "node-2" {
		t.Fatalf("admitted: %+v, %v", at, err)
	}
	got := w.users()
	if slices.Sort(got); !slices.Equal(got, []string{"192.0.2.2", "192.0.2.3"}) {
		t.Errorf("while it moves %v reach it", got)
	}
	w.connect(a, "node-3")
	if got := w.users(); !slices.Equal(got, []string{"192.0.2.3"}) {
		t.Errorf("after it moved %v reach it", got)
	}
	// A guest elsewhere sees the volume grow.
	grown := make(chan string, 1)
	third.Refuse(func(call, volume string) error {
		if call == "GrowAttached" {
			grown <- volume
		}
		return nil
	})
	second.Refuse(func(call, _ string) error { return errs.New(errs.Internal, "%s is not its business", call) })
	w.act("owner", "3.42", id, `{"os-extend":{"new_size":2}}`).want(202)
	w.settled()
	select {
	case v := <-grown:
		if v != id {
			t.Errorf("%s grew", v)
		}
	default:
		t.Error("the server's host was not told")
	}
	if src := w.connect(a, "node-1"); src.Remote != nil || len(w.users()) > 0 {
		t.Errorf("on its own node: %+v, and %v reach it", src, w.users())
	}
	w.connect(a, "node-2")
	if err := a.Release(ctx, "at-1", nil); err != nil {
		t.Fatal(err)
	}
	if r, err := w.svc.Nodes.Exports.Get("node-1"); err != nil || len(r.Exports) > 0 || len(w.users()) > 0 {
		t.Errorf("after it was released: %+v, %v", r, err)
	}
}

// Nobody gets a volume whose node is away, or does not let it go.
func TestKeeperAway(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	_, a := w.claimed("node-1")
	w.svc.Nodes.Connect("node-1", nil)
	at, err := a.Connect(t.Context(), "at-1", "node-2", "/dev/vdb", "", map[string]any{"host": "node-2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Source(t.Context(), at, "node-2"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("while its node is away: %v", err)
	}
	w.svc.Nodes.Connect("node-1", w.node)
	if err := a.Report(t.Context(), "node-1", []nodeapi.ExportStatus{{Volume: at.VolumeID, Fault: "the disk is broken"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := a.Source(ctx, at, "node-2"); err == nil || !strings.Contains(err.Error(), "the disk is broken") {
		t.Errorf("an export that fails: %v", err)
	}
	// Releasing waits for a node that is there, and for no other.
	if err := a.Report(t.Context(), "node-1", nodestest.Exported("192.0.2.1", a.Exports("node-1"))); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Release(t.Context(), "at-1", nil) }()
	if err := wait.Until(t.Context(), "the end of the export to be wanted", time.Millisecond, func(context.Context) (bool, error) { return len(w.users()) == 0, nil }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("released while its node lets others in: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	w.svc.Nodes.Connect("node-1", nil)
	if err := a.Report(t.Context(), "node-1", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
