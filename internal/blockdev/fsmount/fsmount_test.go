package fsmount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// testUID is a user that owns nothing on any host.
const testUID = 64395

type world struct {
	*testing.T
	m       *Manager
	exports *export.Manager
	driver  *local.Driver
	dir     string
	groups  *cgroup.Manager
	tools   qemu.Tools
}

func newWorld(t *testing.T) *world {
	needs.Root(t, "file systems are mounted")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		needs.Missing(t, "FUSE: %v", err)
	}
	tools, log := qemu.Tools{UID: testUID, GID: testUID}, slog.New(slog.NewTextHandler(t.Output(), nil))
	w := &world{T: t, tools: tools, dir: filepath.Join(t.TempDir(), "mounts, and a comma")}
	w.driver = get[*local.Driver](t)(local.New(t.Context(), filepath.Join(t.TempDir(), "volumes"), tools))
	groups, err := cgroup.New("strata-mount-test-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Logf("without cgroups: %v", err)
		groups = nil
	}
	w.groups = groups
	w.exports = get[*export.Manager](t)(export.New(export.Config{Dir: filepath.Join(t.TempDir(), "exports"), Tools: tools, Log: log}))
	w.again()
	t.Cleanup(func() {
		ctx := context.Background()
		err := errors.Join(Reset(ctx, w.dir), w.exports.EndAll(ctx))
		if groups != nil {
			err = errors.Join(err, groups.RemoveParent(ctx))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return w
}

func get[V any](t *testing.T) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// again is a new manager, as after a crash.
func (w *world) again() {
	w.m = get[*Manager](w.T)(New(Config{Dir: w.dir, Program: os.Args[0], Tools: w.tools, Cgroups: w.groups, Log: slog.New(slog.NewTextHandler(w.Output(), nil))}))
}

// volume makes a volume that is exported.
func (w *world) volume(key string, content []byte) (nodeapi.VolumeRef, nodeapi.ContainerVolume) {
	w.Helper()
	ref := nodeapi.VolumeRef{ID: uuid.NewString(), Key: []byte(key)}
	w.must(w.driver.Create(w.Context(), ref, 64<<20, volumes.Origin{}))
	if content != nil {
		d := get[volumes.Device](w.T)(w.driver.Open(w.Context(), ref, ""))
		_, err := d.WriteAt(content, 1<<20)
		w.must(errors.Join(err, d.Flush(), d.Close()))
	}
	r := &nodeapi.Remote{User: "them", PSK: bytes.Repeat([]byte{7}, 32)}
	w.serve(ref, r)
	return ref, nodeapi.ContainerVolume{ID: ref.ID, Name: "data", Remote: r}
}

func (w *world) serve(ref nodeapi.VolumeRef, r *nodeapi.Remote) {
	w.Helper()
	r.Addr = get[string](w.T)(w.exports.Serve(w.Context(), w.driver, ref, "127.0.0.1", map[string]export.User{r.User: {PSK: r.PSK, Addr: "127.0.0.1"}}))
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) ensure(user string, v nodeapi.ContainerVolume) string {
	w.Helper()
	return get[string](w.T)(w.m.Ensure(w.Context(), user, v))
}

func (w *world) write(at, text string) {
	w.Helper()
	f := get[*os.File](w.T)(os.OpenFile(filepath.Join(at, "file"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644))
	_, err := f.WriteString(text)
	w.must(errors.Join(err, f.Sync(), f.Close()))
}

func (w *world) reads(at, want string) {
	w.Helper()
	if got, err := os.ReadFile(filepath.Join(at, "file")); err != nil || string(got) != want {
		w.Errorf("the file holds %q, %v; want %q", got, err, want)
	}
}

// left lists what there is of volumes: mounts, processes and files.
func (w *world) left() (out []string) {
	raw := get[[]byte](w.T)(os.ReadFile("/proc/self/mountinfo"))
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(unescape.Replace(f[4]), w.dir) {
			out = append(out, f[4])
		}
	}
	for _, e := range get[[]os.DirEntry](w.T)(os.ReadDir(w.dir)) {
		out = append(out, e.Name())
	}
	return out
}

// TestLife has a blank volume formatted, shared by two users, mounted again by a
// manager that knows nothing, and kept when all is gone.
func TestLife(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": "0123456789"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, v := w.volume(key, nil)
			at := w.ensure("one", v)
			if have := get[[]os.DirEntry](t)(os.ReadDir(at)); len(have) != 0 {
				t.Errorf("a new file system has %v", have)
			}
			w.write(at, "first")
			known := v
			known.Remote = nil
			w.again() // which is told nothing, and disturbs nothing
			f := get[*os.File](t)(os.Open(filepath.Join(at, "file")))
			if again := w.ensure("two", known); again != at {
				t.Errorf("mounted at %s", again)
			}
			w.must(f.Close())
			w.must(w.m.Release(t.Context(), "one", v.ID))
			w.reads(at, "first")
			w.must(w.m.Release(t.Context(), "two", v.ID))
			w.must(w.m.Release(t.Context(), "two", v.ID))
			if left := w.left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			w.reads(w.ensure("three", v), "first")
			var st unix.Statfs_t
			w.must(unix.Statfs(at, &st))
			if st.Flags&unix.ST_NODEV == 0 || st.Flags&unix.ST_NOSUID == 0 {
				t.Errorf("mounted with %x", st.Flags)
			}
			w.must(w.m.Sweep(t.Context(), func(user string) bool { return user != "three" }))
			if left := w.left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestDeadDaemon has the daemon killed: what was flushed is there when it is mounted again.
func TestDeadDaemon(t *testing.T) {
	w := newWorld(t)
	_, v := w.volume("", nil)
	at := w.ensure("one", v)
	w.write(at, "kept")
	for _, pid := range qemu.Workers(w.m.dir(v.ID)) {
		w.must(syscall.Kill(pid, syscall.SIGKILL))
	}
	w.must(qemu.AwaitWorkers(t.Context(), w.m.dir(v.ID)))
	v.Remote = nil
	w.reads(w.ensure("one", v), "kept")
}

// TestNeverFormatted has volumes that hold something.
func TestNeverFormatted(t *testing.T) {
	w := newWorld(t)
	ref, v := w.volume("", []byte("of somebody, without a signature"))
	if _, err := w.m.Ensure(t.Context(), "one", v); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "not formatted") {
		t.Errorf("a volume with data: %v", err)
	}
	if left := w.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	w.must(w.exports.End(t.Context(), ref.ID))
	d := get[volumes.Device](t)(w.driver.Open(t.Context(), ref, ""))
	got := make([]byte, 10)
	_, err := d.ReadAt(got, 1<<20)
	w.must(errors.Join(err, d.Close()))
	if string(got) != "of somebod" {
		t.Errorf("the data is %q now", got)
	}
	_, v = w.volume("", nil)
	v.ReadOnly = true
	if _, err := w.m.Ensure(t.Context(), "one", v); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "blank") {
		t.Errorf("a blank volume, read-only: %v", err)
	}
	v.ReadOnly = false
	at := w.ensure("one", v)
	w.write(at, "text")
	w.must(w.m.Release(t.Context(), "one", v.ID))
	v.ReadOnly = true
	at = w.ensure("one", v)
	w.reads(at, "text")
	if err := os.WriteFile(filepath.Join(at, "other"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing read-only: %v", err)
	}
}

// TestGrown has a file system fill its volume when that is larger at the next mount.
func TestGrown(t *testing.T) {
	w := newWorld(t)
	ref, v := w.volume("", nil)
	v.Limits = &nodeapi.IOLimits{TotalIOPS: 1000, TotalBytes: 50 << 20}
	w.write(w.ensure("one", v), "text")
	w.must(w.driver.Extend(t.Context(), ref, 128<<20, w.exports.User(ref.ID)))
	w.must(w.m.Release(t.Context(), "one", v.ID))
	at := w.ensure("one", v)
	w.reads(at, "text")
	var st unix.Statfs_t
	w.must(unix.Statfs(at, &st))
	if size := int64(st.Blocks) * st.Bsize; size < 100<<20 {
		t.Errorf("the file system has %d bytes", size)
	}
}

// TestGrownInUse has volumes grow while they are written: a device, and file systems as
// far as the kernel grows those that are mounted.
func TestGrownInUse(t *testing.T) {
	for _, form := range []Form{{Raw: true}, {Kind: "ext4"}, {Kind: "xfs"}} {
		t.Run(form.Kind, func(t *testing.T) {
			w := newWorld(t)
			ref, v := w.volume("", nil)
			w.must(w.exports.End(t.Context(), ref.ID))
			w.must(w.driver.Extend(t.Context(), ref, 400<<20, nil)) // the least that XFS takes
			w.serve(ref, v.Remote)
			if form.Kind == "xfs" {
				v.Limits = &nodeapi.IOLimits{TotalIOPS: 1000}
			}
			at := get[string](t)(w.m.EnsureAs(t.Context(), "one", v, form))
			if _, err := w.m.EnsureAs(t.Context(), "two", v, Form{Raw: !form.Raw}); !errs.Is(err, errs.Conflict) {
				t.Errorf("in two forms: %v", err)
			}
			const size = 600 << 20
			file := at
			if !form.Raw {
				file = filepath.Join(at, "file")
			}
			f := get[*os.File](t)(os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600))
			defer f.Close()
			ctx, cancel := context.WithCancel(t.Context())
			written := make(chan error)
			go func() {
				var err error
				for i := int64(0); err == nil && ctx.Err() == nil; i++ {
					if _, err = f.WriteAt(bytes.Repeat([]byte{byte(i)}, 4096), i%100*4096); err == nil {
						err = f.Sync()
					}
				}
				written <- err
			}()
			w.must(w.driver.Extend(t.Context(), ref, size, w.exports.User(ref.ID)))
			err := w.m.Grow(t.Context(), v.ID, size)
			again := w.m.Grow(t.Context(), v.ID, size)
			cancel()
			w.must(<-written)
			if form.Kind == "ext4" && !mayGrow(t) {
				if !errs.Is(err, errs.Conflict) || !errs.Is(again, errs.Conflict) {
					t.Errorf("grown without the right to: %v, %v", err, again)
				}
				return
			}
			w.must(errors.Join(err, again))
			if form.Raw {
				if end := get[int64](t)(f.Seek(0, io.SeekEnd)); end != size {
					t.Errorf("the device has %d bytes", end)
				}
				_, err := f.WriteAt([]byte("end"), size-512)
				w.must(errors.Join(err, f.Sync()))
				return
			}
			var st unix.Statfs_t
			w.must(unix.Statfs(at, &st))
			if have := int64(st.Blocks) * st.Bsize; have < 450<<20 {
				t.Errorf("the file system has %d bytes", have)
			}
			w.must(f.Close())
		})
	}
}

// mayGrow tells whether the kernel lets us grow an ext4 that is mounted.
func mayGrow(t *testing.T) bool {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// TestRevoked has the volume taken away: what this machine writes reaches it no more,
// and letting go of it works.
func TestRevoked(t *testing.T) {
	w := newWorld(t)
	ref, v := w.volume("", nil)
	w.write(w.ensure("one", v), "first")
	other := &nodeapi.Remote{User: "others", PSK: bytes.Repeat([]byte{9}, 32)}
	w.serve(ref, other) // who is not named is shut out
	there := get[*Manager](t)(New(Config{Dir: filepath.Join(t.TempDir(), "there"), Program: os.Args[0], Tools: w.tools, Log: slog.New(slog.DiscardHandler)}))
	defer func() { w.must(there.Release(context.Background(), "two", v.ID)) }()
	w.reads(get[string](t)(there.Ensure(t.Context(), "two", nodeapi.ContainerVolume{ID: v.ID, Name: "data", Remote: other})), "first")
	w.must(w.m.Release(t.Context(), "one", v.ID))
	if left := w.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
