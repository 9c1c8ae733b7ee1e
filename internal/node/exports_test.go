package node

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	localdisk "github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// exportControl says what is to be exported and hears what is.
type exportControl struct {
	wanted chan []nodeapi.Export
	mu     sync.Mutex
	last   []nodeapi.ExportStatus
}

func (c *exportControl) Exports(ctx context.Context) <-chan []nodeapi.Export {
	out := make(chan []nodeapi.Export)
	go func() {
		defer close(out)
		for {
			select {
			case l := <-c.wanted:
				out <- l
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c *exportControl) ReportExports(_ context.Context, list []nodeapi.ExportStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = list
	return nil
}

// keeper is a node that exports at the address, until stop.
func (w *storageWorld) keeper(addr string) (c *exportControl, stop func()) {
	w.Helper()
	w.restart()
	c = &exportControl{wanted: make(chan []nodeapi.Export)}
	w.s.Node, w.s.Addr, w.s.Control = "a", addr, c
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	s := w.s
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return c, func() {
		cancel()
		<-done
	}
}

// let has the volume exported for the users, none meaning that it is not, and
// gives how the first of them reaches it.
func (w *storageWorld) let(c *exportControl, v nodeapi.Volume, users ...string) *nodeapi.Remote {
	w.Helper()
	list := []nodeapi.Export{}
	var clients []nodeapi.ExportClient
	for _, u := range users {
		clients = append(clients, nodeapi.ExportClient{User: u, PSK: []byte("a key of 16 byte"), Addr: "127.0.0.1"})
	}
	if len(users) > 0 {
		list = append(list, nodeapi.Export{VolumeRef: v.VolumeRef, Clients: clients})
	}
	c.wanted <- list
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	var out *nodeapi.Remote
	w.must(wait.Until(ctx, "the export", 10*time.Millisecond, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		var now []string
		for _, e := range c.last {
			if e.Volume == v.ID && e.Fault == "" {
				now, out = e.Users, &nodeapi.Remote{Addr: e.Addr, User: "one", PSK: []byte("a key of 16 byte")}
			}
		}
		return slices.Equal(now, users), nil
	}))
	return out
}

// onB is a node that attaches what another keeps.
func (w *storageWorld) onB() *Storage {
	w.Helper()
	o := w.s.StorageOptions
	o.Node, o.Dir, o.Control = "b", filepath.Join(w.dir, "attached-b"), nil
	w.must(os.MkdirAll(o.Dir, 0o700))
	return &Storage{StorageOptions: o}
}

// TestExportFromUnderAMachine has another host reach a volume that a machine of
// this one has open: its disk is opened anew by the export, and the agent may die.
func TestExportFromUnderAMachine(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": "0123456789abcdef"} {
		t.Run(name, func(t *testing.T) {
			w := newStorageWorld(t)
			ctx := t.Context()
			v := w.volume(1, key)
			w.fill(v.VolumeRef, 1)
			c, stop := w.keeper("127.0.0.1")
			src := nodeapi.VolumeSource{VolumeRef: v.VolumeRef, Node: "a"}
			machine, dir := w.start(src)
			remote := w.let(c, v, "one")
			spec, err := w.machines.Spec(machine)
			w.must(err)
			if d := spec.Disks[0]; d.NBD == nil || d.File != "" || d.Encrypted {
				t.Errorf("the machine has %+v", d)
			}
			if p, err := w.machines.State(machine); err != nil || p != nodeapi.PowerRunning {
				t.Errorf("the machine is %s, %v", p, err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "vol-*")); err != nil || len(left) > 0 {
				t.Errorf("links are left: %v, %v", left, err)
			}
			if got := w.content(v.VolumeRef, ""); got != 1 {
				t.Errorf("the volume has %d", got)
			}
			// Another host.
			here := w.s
			w.s = w.onB()
			away := nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: v.ID, Driver: localdisk.Name}, Node: "a"}
			if _, err := w.s.Attach(ctx, must(w.machines.Dir(uuid.NewString())), away, false); !errs.Is(err, errs.Conflict) {
				t.Errorf("attached without an export: %v", err)
			}
			away.Remote = remote
			other, otherDir := w.start(away)
			w.s = here
			w.must(w.s.EnsureSnapshot(ctx, v.VolumeRef, "s"))
			w.must(w.s.ExtendVolume(ctx, v.VolumeRef, 2))
			b := w.onB()
			w.must(b.GrowAttached(ctx, v.ID, 2))
			if err := w.s.DeleteVolume(ctx, v.VolumeRef); !errs.Is(err, errs.Conflict) {
				t.Errorf("removed while it is used: %v", err)
			}
			// The daemon and the agent end.
			daemon := w.s.Exports.PIDs(v.ID)
			stop()
			if len(daemon) != 1 {
				t.Fatalf("daemons %v", daemon)
			}
			w.must(syscall.Kill(daemon[0], syscall.SIGKILL))
			c, stop = w.keeper("127.0.0.1")
			defer stop()
			if again := w.let(c, v, "one"); again.Addr != remote.Addr {
				t.Errorf("exported at %s, before at %s", again.Addr, remote.Addr)
			}
			w.must(b.GrowAttached(ctx, v.ID, 2)) // talks to the new daemon
			w.must(w.machines.Stop(ctx, other, 0))
			w.must(b.Detach(ctx, otherDir, away))
			w.let(c, v)
			if pids := w.s.Exports.PIDs(v.ID); len(pids) != 1 {
				t.Errorf("daemons %v, and the machine here has the volume by one", pids)
			}
			w.must(w.machines.Stop(ctx, machine, 0))
			w.must(w.s.Detach(ctx, dir, src))
			w.must(w.s.RevertVolume(ctx, v.VolumeRef, "s"))
			if got := w.content(v.VolumeRef, ""); got != 1 {
				t.Errorf("the volume has %d", got)
			}
			w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
			if left, err := os.ReadDir(filepath.Join(w.dir, "exports")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestExportOfSharedVolume has machines that share a volume by a socket change over
// to the address that another host reaches, and new ones join there.
func TestExportOfSharedVolume(t *testing.T) {
	w := newStorageWorld(t)
	ctx := t.Context()
	v := w.volume(1, "")
	w.fill(v.VolumeRef, 3)
	c, stop := w.keeper("127.0.0.1")
	defer stop()
	src := nodeapi.VolumeSource{VolumeRef: v.VolumeRef, Node: "a", Shared: true}
	dirs := map[string]string{}
	for range 2 {
		machine, dir := w.start(src)
		dirs[machine] = dir
	}
	remote := w.let(c, v, "one", "two")
	machine, dir := w.start(src)
	dirs[machine] = dir
	for m := range dirs {
		spec, err := w.machines.Spec(m)
		w.must(err)
		if d := spec.Disks[0]; d.NBD == nil || d.NBD.Socket != "" || !d.Shared || net.JoinHostPort(d.NBD.Host, d.NBD.Port) != remote.Addr {
			t.Errorf("a machine has %+v of %+v", d.NBD, d)
		}
	}
	w.let(c, v, "one")
	w.let(c, v)
	w.must(w.s.ExtendVolume(ctx, v.VolumeRef, 2)) // all of them can be talked to
	if got := w.content(v.VolumeRef, ""); got != 3 {
		t.Errorf("the volume has %d", got)
	}
	for m, dir := range dirs {
		w.must(w.machines.Stop(ctx, m, 0))
		w.must(w.s.Detach(ctx, dir, src))
	}
	if left := w.s.Exports.PIDs(v.ID); len(left) > 0 {
		t.Errorf("daemons %v are left", left)
	}
	w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
}

// TestExportThatFails keeps the guest running with its disk as before.
func TestExportThatFails(t *testing.T) {
	w := newStorageWorld(t)
	v := w.volume(1, "")
	c, stop := w.keeper("192.0.2.1") // which is not here
	defer stop()
	machine, _ := w.start(nodeapi.VolumeSource{VolumeRef: v.VolumeRef, Node: "a"})
	c.wanted <- []nodeapi.Export{{VolumeRef: v.VolumeRef, Clients: []nodeapi.ExportClient{{User: "one", PSK: []byte("a key of 16 byte")}}}}
	w.must(wait.Until(t.Context(), "a fault", 10*time.Millisecond, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.last) == 1 && c.last[0].Fault != "" && len(c.last[0].Users) == 0, nil
	}))
	c.wanted <- nil
	w.must(wait.Until(t.Context(), "the end of it", 10*time.Millisecond, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.last) == 0, nil
	}))
	spec, err := w.machines.Spec(machine)
	w.must(err)
	if power, err := w.machines.State(machine); err != nil || power != nodeapi.PowerRunning || spec.Disks[0].File == "" || w.machines.Swapping(machine) != "" {
		t.Errorf("the machine is %s with %+v, %v", power, spec.Disks[0], err)
	}
	w.must(w.s.ExtendVolume(t.Context(), v.VolumeRef, 2))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
