package local

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const mib = 1 << 20

// foreigners is a driver and the directory of foreign files of its pool.
type foreigners struct {
	*testing.T
	d    *Driver
	root string
	dir  string
}

func newForeigners(t *testing.T) *foreigners {
	needs.Root(t, "QEMU's programs run as another user")
	root := t.TempDir()
	return &foreigners{t, newDriver(t, root), root, filepath.Join(root, foreignDir)}
}

func (w *foreigners) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *foreigners) img(args ...string) {
	w.Helper()
	cmd := exec.Command("qemu-img", args...)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("qemu-img %v: %v: %s", args, err, out)
	}
}

func (w *foreigners) put(name string, data []byte) {
	w.must(os.WriteFile(filepath.Join(w.dir, name), data, 0o600))
}

func (w *foreigners) write(v nodeapi.VolumeRef, off int64, pattern byte) {
	w.Helper()
	d, err := w.d.Open(w.Context(), v, "")
	w.must(err)
	_, err = d.WriteAt(bytes.Repeat([]byte{pattern}, 4096), off)
	w.must(errors.Join(err, d.Flush(), d.Close()))
}

func (w *foreigners) check(v nodeapi.VolumeRef, off int64, pattern byte) {
	w.Helper()
	d, err := w.d.Open(w.Context(), v, "")
	w.must(err)
	got := make([]byte, 4096)
	_, err = d.ReadAt(got, off)
	w.must(errors.Join(err, d.Close()))
	if !bytes.Equal(got, bytes.Repeat([]byte{pattern}, 4096)) {
		w.Errorf("volume %s at %d is not %d but %d", v.ID, off, pattern, got[0])
	}
}

func (w *foreigners) names() (fit, unfit []string) {
	w.Helper()
	list, err := w.d.Foreign(w.Context(), Pool)
	w.must(err)
	for _, f := range list {
		if f.Unfit == "" {
			fit = append(fit, f.Name)
		} else {
			unfit = append(unfit, f.Name)
		}
	}
	return fit, unfit
}

func TestAdopt(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	raw := make([]byte, 3*mib)
	copy(raw[mib:], bytes.Repeat([]byte{7}, 4096))
	w.put("disk.raw", raw)
	w.img("convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2")
	w.img("snapshot", "-c", "before", "disk.qcow2")
	if fit, unfit := w.names(); !slices.Equal(fit, []string{"disk.qcow2", "disk.raw"}) || unfit != nil {
		t.Fatalf("fit %v, unfit %v", fit, unfit)
	}
	for i, name := range []string{"disk.qcow2", "disk.raw"} {
		v := nodeapi.VolumeRef{ID: []string{"q", "r"}[i]}
		for range 2 { // the second time nothing happens
			w.must(w.d.Adopt(ctx, v, name))
		}
		w.check(v, mib, 7)
		if size, err := w.d.Size(ctx, v, ""); err != nil || size != 1<<30 {
			t.Errorf("%s has %d bytes, %v", name, size, err)
		}
	}
	if s, err := w.d.Snapshots(ctx, nodeapi.VolumeRef{ID: "q"}); err != nil || !slices.Equal(s, []string{"before"}) {
		t.Errorf("snapshots %v, %v", s, err)
	}
	if fit, unfit := w.names(); len(fit)+len(unfit) != 0 {
		t.Errorf("left: %v, %v", fit, unfit)
	}
	for _, id := range []string{"q", "r"} {
		for range 2 {
			w.must(w.d.Release(ctx, nodeapi.VolumeRef{ID: id}, "volume-"+id))
		}
	}
	if fit, _ := w.names(); !slices.Equal(fit, []string{"volume-q", "volume-r"}) {
		t.Errorf("released: %v", fit)
	}
	v := nodeapi.VolumeRef{ID: "again"}
	w.must(w.d.Adopt(ctx, v, "volume-r"))
	w.check(v, mib, 7)
}

func TestAdoptRefuses(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	secret := filepath.Join(w.root, "secret")
	w.must(os.WriteFile(secret, make([]byte, mib), 0o600))
	w.must(os.Symlink(secret, filepath.Join(w.dir, "symlink")))
	w.must(os.Link(secret, filepath.Join(w.dir, "hardlink")))
	w.must(unix.Mkfifo(filepath.Join(w.dir, "fifo"), 0o600))
	w.must(os.Mkdir(filepath.Join(w.dir, "directory"), 0o700))
	w.put("empty", nil)
	w.put("base", make([]byte, mib))
	w.img("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", "backed")
	w.img("create", "-q", "-f", "qcow2", "-o", "data_file=other", "external", "1M")
	w.img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old", "1M")
	w.img("create", "-q", "-f", "vmdk", "vmware", "1M")
	w.img("create", "-q", "-f", "qcow2", "open", "1M")
	f, err := os.Open(filepath.Join(w.dir, "open"))
	w.must(err)
	defer f.Close()
	_, unfit := w.names()
	for _, name := range []string{"symlink", "hardlink", "fifo", "directory", "empty", "backed", "external", "old", "vmware", "open"} {
		if !slices.Contains(unfit, name) {
			t.Errorf("%s is offered", name)
		}
	}
	for _, name := range append(unfit, "", "..", "../secret", "/etc/passwd", ".hidden", "none", "a/b") {
		v := nodeapi.VolumeRef{ID: "v"}
		if err := w.d.Adopt(ctx, v, name); err == nil {
			t.Errorf("%q became a volume", name)
		}
		if ok, err := w.d.Exists(ctx, v); ok || err != nil {
			t.Fatalf("%q left a volume: %v", name, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.root, "*"+newExt)); err != nil || left != nil {
		t.Errorf("left: %v", left)
	}
	w.must(w.d.Create(ctx, nodeapi.VolumeRef{ID: "v"}, mib, volumes.Origin{}))
	for _, name := range []string{"", "..", "../x", ".x"} {
		if err := w.d.Release(ctx, nodeapi.VolumeRef{ID: "v"}, name); !errs.Is(err, errs.Invalid) {
			t.Errorf("released as %q: %v", name, err)
		}
	}
	if err := w.d.Release(ctx, nodeapi.VolumeRef{ID: "v"}, "base"); err == nil {
		t.Error("a released volume took another file's name")
	}
}

// A driver that begins anew, wherever an adoption was interrupted, has the file or
// the volume, and the adoption can be done again.
func TestAdoptInterrupted(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	v := nodeapi.VolumeRef{ID: "v"}
	data := bytes.Repeat([]byte{5}, mib)
	w.put("disk", data)
	img, err := inspectForeign(w.root, "disk")
	w.must(err)
	tmp := filepath.Join(w.root, "v"+newExt)
	w.must(w.d.workDir(tmp))
	w.must(w.d.takeOver(ctx, tmp, v, filepath.Join(w.dir, "disk"), img))
	w.d = newDriver(t, w.root) // before the volume had its name
	if fit, unfit := w.names(); !slices.Equal(fit, []string{"disk"}) {
		t.Fatalf("fit %v, unfit %v", fit, unfit)
	}
	w.must(w.d.Adopt(ctx, v, "disk"))
	w.put("disk", data) // as if the file had not been removed yet
	w.must(os.WriteFile(filepath.Join(w.root, "v", adoptedFile), []byte("disk"), 0o600))
	w.d = newDriver(t, w.root)
	w.must(w.d.Adopt(ctx, v, "disk"))
	if fit, unfit := w.names(); len(fit)+len(unfit) != 0 {
		t.Errorf("left: %v, %v", fit, unfit)
	}
	w.check(v, 0, 5)
}

// What is released needs no base, and shared bases are not written.
func TestReleaseOfOverlay(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "image")
	w.must(os.WriteFile(path, bytes.Repeat([]byte{6}, 2*mib), 0o644))
	v := nodeapi.VolumeRef{ID: "v"}
	w.must(w.d.Create(ctx, v, 1<<30, volumes.Origin{Image: &blockdev.Base{Path: path, Format: blockdev.Raw, VirtualSize: 2 * mib}}))
	w.write(v, mib, 9)
	w.must(w.d.Release(ctx, v, "volume-v"))
	if fit, unfit := w.names(); !slices.Equal(fit, []string{"volume-v"}) {
		t.Fatalf("fit %v, unfit %v", fit, unfit)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bytes.Repeat([]byte{6}, 2*mib)) {
		t.Errorf("the image changed: %v", err)
	}
	again := nodeapi.VolumeRef{ID: "again"}
	w.must(w.d.Adopt(ctx, again, "volume-v"))
	w.check(again, 0, 6)
	w.check(again, mib, 9)
	w.check(again, 4*mib, 0)
}

func TestRecrypt(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "image")
	w.must(os.WriteFile(path, bytes.Repeat([]byte{6}, 2*mib), 0o644))
	plain, secret := nodeapi.VolumeRef{ID: "v"}, nodeapi.VolumeRef{ID: "v", Key: []byte("secret")}
	w.must(w.d.Create(ctx, plain, 8*mib, volumes.Origin{Image: &blockdev.Base{Path: path, Format: blockdev.Raw, VirtualSize: 2 * mib}}))
	w.write(plain, mib, 9)
	for _, turn := range []struct{ from, to nodeapi.VolumeRef }{{plain, secret}, {secret, plain}} {
		for range 2 {
			w.must(w.d.Recrypt(ctx, turn.from, turn.to))
		}
		w.check(turn.to, 0, 6)
		w.check(turn.to, mib, 9)
		if _, err := w.d.Open(ctx, turn.from, ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("it opens as before: %v", err)
		}
		if left, err := filepath.Glob(filepath.Join(w.root, "v*")); err != nil || len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	}
	w.must(w.d.Snapshot(ctx, plain, "s", nil))
	if err := w.d.Recrypt(ctx, plain, secret); !errs.Is(err, errs.Conflict) {
		t.Errorf("with a snapshot: %v", err)
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	w.must(w.d.DeleteSnapshot(ctx, plain, "s", nil))
	if err := w.d.Recrypt(ended, plain, secret); err == nil {
		t.Error("an interrupted change succeeded")
	}
	w.check(plain, mib, 9)
}

// Two pools, the second on another filesystem.
func TestPools(t *testing.T) {
	w := newForeigners(t)
	ctx := t.Context()
	other, err := os.MkdirTemp("/dev/shm", "strata-test-pool-")
	w.must(err)
	t.Cleanup(func() { os.RemoveAll(other) })
	w.must(os.Chmod(other, 0o711))
	d, err := WithPools(ctx, map[string]string{Pool: w.root, "fast": other}, qemu.Tools{UID: nobody, GID: nobody})
	w.must(err)
	w.d = d
	v := nodeapi.VolumeRef{ID: "v", Pool: "fast"}
	w.must(d.Create(ctx, v, 8*mib, volumes.Origin{}))
	w.write(v, mib, 3)
	if ok, err := d.Exists(ctx, nodeapi.VolumeRef{ID: "v", Pool: Pool}); ok || err != nil {
		t.Errorf("it is in the other pool: %v", err)
	}
	if err := d.Create(ctx, nodeapi.VolumeRef{ID: "v", Pool: "none"}, mib, volumes.Origin{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("in a pool that is not there: %v", err)
	}
	pools, err := d.Pools(ctx)
	w.must(err)
	for _, p := range pools {
		if p.Name == "fast" && p.Provisioned == 0 {
			t.Errorf("%+v", p)
		}
	}
	dir := t.TempDir()
	for range 2 {
		disk, err := d.Link(ctx, v, dir)
		w.must(err)
		if h, err := readHeader(filepath.Join(dir, disk.File)); err != nil || h.size != 8*mib {
			t.Errorf("by its link: %+v, %v", h, err)
		}
	}
	w.must(d.Unlink(ctx, v, dir))
	clone := nodeapi.VolumeRef{ID: "clone", Pool: "fast"}
	w.must(d.Snapshot(ctx, v, "s", nil))
	w.must(d.Create(ctx, clone, 8*mib, volumes.Origin{Volume: &v, Snapshot: "s"}))
	w.check(clone, mib, 3)
	w.must(d.Delete(ctx, v))
}
