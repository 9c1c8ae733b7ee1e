package export

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/nbd"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// testUID is a user that owns nothing on any host.
const testUID = 64397

type world struct {
	testing.TB
	m      *Manager
	driver volumes.Driver
	ref    nodeapi.VolumeRef
	at     string // a machine's directory
}

func newWorld(t testing.TB, key string) *world {
	needs.Root(t, "the daemon runs as another user")
	w := &world{TB: t, at: t.TempDir(), ref: nodeapi.VolumeRef{ID: uuid.NewString(), Key: []byte(key)}}
	tools := qemu.Tools{UID: testUID, GID: testUID}
	d, err := local.New(t.Context(), filepath.Join(t.TempDir(), "volumes"), tools)
	w.must(err)
	w.driver = d
	w.must(d.Create(t.Context(), w.ref, 16<<20, volumes.Origin{}))
	groups, err := cgroup.New("strata-export-test-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Logf("without cgroups: %v", err)
		groups = nil
	}
	w.m, err = New(Config{Dir: filepath.Join(filepath.Dir(w.at), "a-directory-whose-name-is-too-long-for-the-path-of-a-unix-socket-in-it-and-then-some"),
		Tools: tools, Cgroups: groups, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	w.must(err)
	t.Cleanup(func() {
		if err := w.m.EndAll(context.Background()); err != nil {
			t.Error(err)
		}
		if groups != nil {
			if err := groups.RemoveParent(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) ensure() {
	w.Helper()
	_, err := w.m.Ensure(w.Context(), w.driver, w.ref, w.at)
	w.must(err)
}

// dial connects as a machine does: through its own link.
func (w *world) dial() *nbd.Client {
	w.Helper()
	dir, err := os.Open(w.at)
	w.must(err)
	defer dir.Close()
	conn, err := net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(dir.Fd()))+"/"+w.ref.ID+linkExt)
	w.must(err)
	c, err := nbd.New(w.Context(), conn, Name)
	w.must(err)
	w.Cleanup(func() { c.Close() })
	return c
}

func (w *world) pid() int {
	w.Helper()
	pids := w.m.PIDs(w.ref.ID)
	if len(pids) != 1 {
		w.Fatalf("daemons %v", pids)
	}
	return pids[0]
}

func TestSharedVolume(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": "0123456789"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, key)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			w.ensure()
			one, two := w.dial(), w.dial()
			data, got := bytes.Repeat([]byte{5}, 1<<20), make([]byte, 1<<20)
			_, err := one.WriteAt(data, 3<<20)
			w.must(errors.Join(err, one.Flush()))
			if _, err := two.ReadAt(got, 3<<20); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("another client sees %d, %v", got[0], err)
			}
			// Killed, it comes back and nothing that was flushed is lost.
			go w.m.Run(ctx)
			before := w.pid()
			w.must(syscall.Kill(before, syscall.SIGKILL))
			w.must(wait.Until(ctx, "the daemon to come back", 10*time.Millisecond, func(context.Context) (bool, error) {
				pids := w.m.PIDs(w.ref.ID)
				if len(pids) != 1 || pids[0] == before {
					return false, nil
				}
				a, errA := os.Lstat(filepath.Join(w.at, w.ref.ID+linkExt))
				b, errB := os.Lstat(filepath.Join(w.m.Dir, w.ref.ID, socket))
				n, _ := exports(ctx, filepath.Join(w.m.Dir, w.ref.ID))
				return errA == nil && errB == nil && os.SameFile(a, b) && n == 1, nil
			}))
			clear(got)
			three := w.dial()
			if _, err := three.ReadAt(got, 3<<20); err != nil || !bytes.Equal(got, data) {
				t.Errorf("after the crash %d, %v", got[0], err)
			}
			// Online work.
			u := w.m.User(w.ref.ID)
			w.must(w.driver.Snapshot(ctx, w.ref, "s", u))
			w.must(w.driver.Extend(ctx, w.ref, 32<<20, u))
			if size := w.dial().Size(); size != 32<<20 {
				t.Errorf("extended to %d", size)
			}
			w.must(w.driver.DeleteSnapshot(ctx, w.ref, "s", u))
			// A new manager takes over what runs.
			cfg, pid := w.m.Config, w.pid()
			cancel()
			w.m, err = New(cfg)
			w.must(err)
			w.ensure()
			if w.pid() != pid {
				t.Errorf("daemon %d instead of %d", w.pid(), pid)
			}
			status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
			if err != nil || !bytes.Contains(status, []byte("CapEff:\t0000000000000000")) || !bytes.Contains(status, []byte("Uid:\t"+strconv.Itoa(testUID))) {
				t.Errorf("the daemon has privileges: %s, %v", status, err)
			}
			w.must(errors.Join(w.m.Unlink(w.ref.ID, w.at), w.m.End(t.Context(), w.ref.ID)))
			if pids := w.m.PIDs(w.ref.ID); len(pids) > 0 {
				t.Errorf("daemons %v are left", pids)
			}
		})
	}
}

// TestAdoptDying takes over from a manager in the moment in which the daemon dies.
func TestAdoptDying(t *testing.T) {
	w := newWorld(t, "0123456789")
	for range 10 {
		w.ensure()
		w.must(syscall.Kill(w.pid(), syscall.SIGKILL))
		m, err := New(w.m.Config)
		w.must(err)
		w.m = m
		w.must(w.m.Adopt(t.Context(), w.driver, w.ref, w.at))
	}
	w.ensure()
	w.dial()
}
