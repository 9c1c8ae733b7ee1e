// Package blockdevtest is the conformance suite for drivers of volumes.
package blockdevtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Kit is a driver under test.
type Kit struct {
	Driver volumes.Driver
	// Again makes a new driver over the same volumes, as a new agent does.
	Again func() volumes.Driver
	// Dir has everything that the driver stores, if that can be looked into; "" if not.
	Dir string
	// Encryption: the driver encrypts.
	Encryption bool
}

const mib = 1 << 20

// Run checks a driver.
func Run(t *testing.T, kit func(t *testing.T) *Kit) {
	for _, c := range []struct {
		name string
		run  func(*world)
	}{
		{"Blank", (*world).blank}, {"FromImage", (*world).fromImage}, {"FromVolume", (*world).fromVolume}, {"Sizes", (*world).sizes},
		{"Snapshots", (*world).snapshots}, {"Revert", (*world).revert}, {"Formats", (*world).formats}, {"Encryption", (*world).encryption},
		{"Absent", (*world).absent}, {"Links", (*world).links}, {"Interrupted", (*world).interrupted},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(&world{T: t, Kit: kit(t)}) })
	}
}

type world struct {
	*testing.T
	*Kit
}

// ref names a new volume.
func ref() nodeapi.VolumeRef { return nodeapi.VolumeRef{ID: uuid.NewString()} }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) refused(kind errs.Kind, err error) {
	w.Helper()
	if !errs.Is(err, kind) {
		w.Errorf("got %v, want an error of kind %d", err, kind)
	}
}

func (w *world) make(v nodeapi.VolumeRef, size int64, from volumes.Origin) nodeapi.VolumeRef {
	w.Helper()
	w.must(w.Driver.Create(w.Context(), v, size, from))
	return v
}

// write puts a pattern of n bytes into the volume.
func (w *world) write(v nodeapi.VolumeRef, off int64, n int, pattern byte) {
	w.Helper()
	d, err := w.Driver.Open(w.Context(), v, "")
	w.must(err)
	_, err = d.WriteAt(bytes.Repeat([]byte{pattern}, n), off)
	w.must(errors.Join(err, d.Flush(), d.Close()))
}

// check compares n bytes with a pattern.
func (w *world) check(v nodeapi.VolumeRef, snapshot string, off int64, n int, pattern byte) {
	w.Helper()
	d, err := w.Driver.Open(w.Context(), v, snapshot)
	w.must(err)
	got := make([]byte, n)
	_, err = d.ReadAt(got, off)
	w.must(errors.Join(err, d.Close()))
	if !bytes.Equal(got, bytes.Repeat([]byte{pattern}, n)) {
		w.Errorf("volume %s %s at %d is not %d but begins with %d", v.ID, snapshot, off, pattern, got[:8])
	}
}

func (w *world) size(v nodeapi.VolumeRef, snapshot string, want int64) {
	w.Helper()
	if got, err := w.Driver.Size(w.Context(), v, snapshot); err != nil || got != want {
		w.Errorf("volume %s %s has %d bytes, %v; want %d", v.ID, snapshot, got, err, want)
	}
}

func (w *world) snapshot(v nodeapi.VolumeRef, name string) {
	w.Helper()
	w.must(w.Driver.Snapshot(w.Context(), v, name, nil))
}

func (w *world) blank() {
	v := w.make(ref(), 64*mib, volumes.Origin{})
	w.size(v, "", 64*mib)
	w.check(v, "", 0, mib, 0)
	w.write(v, 63*mib, mib, 7)
	w.make(v, 64*mib, volumes.Origin{}) // again: nothing happens
	w.check(v, "", 63*mib, mib, 7)
	pools, err := w.Driver.Pools(w.Context())
	if err != nil || len(pools) == 0 || pools[0].TotalGiB <= 0 || pools[0].Provisioned < 0.0625 {
		w.Errorf("pools %+v, %v", pools, err)
	}
	w.must(w.Driver.Delete(w.Context(), v))
	if ok, err := w.Driver.Exists(w.Context(), v); ok || err != nil {
		w.Errorf("after the removal: %v, %v", ok, err)
	}
	w.refused(errs.Invalid, w.Driver.Create(w.Context(), ref(), 0, volumes.Origin{}))
	w.refused(errs.Invalid, w.Driver.Create(w.Context(), nodeapi.VolumeRef{ID: "../x"}, mib, volumes.Origin{}))
}

// image makes a base image of 16 MiB whose second MiB is sixes.
func (w *world) image(format blockdev.Format) *blockdev.Base {
	w.Helper()
	dir := w.TempDir()
	raw, path := filepath.Join(dir, "raw"), filepath.Join(dir, "image")
	data := make([]byte, 16*mib)
	copy(data[mib:], bytes.Repeat([]byte{6}, mib))
	w.must(os.WriteFile(raw, data, 0o600))
	if out, err := exec.Command("qemu-img", "convert", "-O", string(format), raw, path).CombinedOutput(); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	b, err := blockdev.EnsureBase(w.Context(), path, filepath.Join(dir, "base"))
	w.must(err)
	return &b
}

func (w *world) fromImage() {
	for _, format := range []blockdev.Format{blockdev.Raw, blockdev.QCOW2} {
		image := w.image(format)
		before, err := os.ReadFile(image.Path)
		w.must(err)
		v := w.make(ref(), 32*mib, volumes.Origin{Image: image})
		w.size(v, "", 32*mib)
		w.check(v, "", mib, mib, 6)
		w.check(v, "", 16*mib, mib, 0)
		w.write(v, mib, mib, 9)
		w.snapshot(v, "s")
		w.write(v, 2*mib, mib, 10)
		clone := w.make(ref(), 32*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
		w.check(clone, "", mib, mib, 9)
		w.check(clone, "", 2*mib, mib, 0)
		if after, err := os.ReadFile(image.Path); err != nil || !bytes.Equal(before, after) {
			w.Errorf("the image changed: %v", err)
		}
		w.must(os.Remove(image.Path))
		w.must(w.Driver.Delete(w.Context(), v))
		w.check(clone, "", mib, mib, 9) // needs neither image nor origin
		w.check(clone, "", 0, mib, 0)
	}
	v := ref()
	w.refused(errs.Invalid, w.Driver.Create(w.Context(), v, 16*mib-512, volumes.Origin{Image: w.image(blockdev.QCOW2)}))
	if ok, err := w.Driver.Exists(w.Context(), v); ok || err != nil {
		w.Errorf("a refused volume: %v, %v", ok, err)
	}
}

func (w *world) fromVolume() {
	v := w.make(ref(), 8*mib, volumes.Origin{})
	w.write(v, 0, mib, 1)
	w.snapshot(v, "s")
	w.write(v, 0, mib, 2)
	same := w.make(ref(), 8*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
	w.check(same, "", 0, mib, 1)
	w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
	larger := w.make(ref(), 12*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
	w.size(larger, "", 12*mib)
	w.check(larger, "", 0, mib, 1)
	w.check(larger, "", 8*mib, 4*mib, 0)
	w.write(larger, 0, mib, 3)
	w.check(v, "", 0, mib, 2)
	w.check(v, "s", 0, mib, 1)
	w.refused(errs.Invalid, w.Driver.Create(w.Context(), ref(), 4*mib, volumes.Origin{Volume: &v, Snapshot: "s"}))
	w.refused(errs.NotFound, w.Driver.Create(w.Context(), ref(), 8*mib, volumes.Origin{Volume: &v, Snapshot: "t"}))
	gone := ref()
	w.refused(errs.NotFound, w.Driver.Create(w.Context(), ref(), 8*mib, volumes.Origin{Volume: &gone, Snapshot: "s"}))
}

func (w *world) sizes() {
	v := w.make(ref(), 8*mib, volumes.Origin{})
	w.write(v, 7*mib, mib, 1)
	for range 2 {
		w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
		w.size(v, "", 16*mib)
	}
	w.check(v, "", 7*mib, mib, 1)
	w.check(v, "", 8*mib, 8*mib, 0)
	w.refused(errs.Invalid, w.Driver.Extend(w.Context(), v, 8*mib, nil))
	w.size(v, "", 16*mib)
	w.snapshot(v, "s")
	w.must(w.Driver.Extend(w.Context(), v, 32*mib, nil))
	w.size(v, "s", 16*mib)
	w.write(v, 31*mib, mib, 2)
	w.check(v, "", 31*mib, mib, 2)
}

func (w *world) snapshots() {
	v := w.make(ref(), 8*mib, volumes.Origin{})
	var want []string
	for i := range 5 {
		w.write(v, 0, mib, byte(i+1))
		name := uuid.NewString()
		want = append(want, name)
		w.snapshot(v, name)
	}
	w.snapshot(v, want[0]) // exists: it stays what it is
	got, err := w.Driver.Snapshots(w.Context(), v)
	if err != nil || !slices.Equal(got, want) {
		w.Errorf("snapshots %v, %v; want %v", got, err, want)
	}
	for range 2 {
		w.must(w.Driver.DeleteSnapshot(w.Context(), v, want[2], nil))
	}
	for i, name := range want {
		if i != 2 {
			w.check(v, name, 0, mib, byte(i+1))
		}
	}
	_, err = w.Driver.Open(w.Context(), v, want[2])
	w.refused(errs.NotFound, err)
	w.refused(errs.Invalid, w.Driver.Snapshot(w.Context(), v, "a,b=c", nil))
	w.must(w.Driver.Delete(w.Context(), v)) // with its snapshots
	if ok, _ := w.Driver.Exists(w.Context(), v); ok {
		w.Error("a volume with snapshots stays")
	}
}

func (w *world) revert() {
	v := w.make(ref(), 8*mib, volumes.Origin{})
	w.write(v, 0, mib, 1)
	w.snapshot(v, "old")
	w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
	w.write(v, 0, mib, 2)
	w.write(v, 15*mib, mib, 2)
	w.snapshot(v, "new")
	w.refused(errs.Conflict, w.Driver.Revert(w.Context(), v, "old")) // would cut off what new has
	w.must(w.Driver.Revert(w.Context(), v, "new"))
	w.check(v, "", 15*mib, mib, 2)
	w.must(w.Driver.DeleteSnapshot(w.Context(), v, "new", nil))
	for range 2 {
		w.must(w.Driver.Revert(w.Context(), v, "old"))
		w.size(v, "", 8*mib)
		w.check(v, "", 0, mib, 1)
	}
	w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
	w.check(v, "", 15*mib, mib, 0) // nothing comes back
	w.check(v, "old", 0, mib, 1)
	w.refused(errs.NotFound, w.Driver.Revert(w.Context(), v, "never"))
}

func (w *world) formats() {
	v := w.make(ref(), 8*mib, volumes.Origin{})
	content := make([]byte, 8*mib)
	rand.NewChaCha8([32]byte{2}).Read(content[mib : 2*mib])
	d, err := w.Driver.Open(w.Context(), v, "")
	w.must(err)
	_, err = d.WriteAt(content[mib:2*mib], mib)
	w.must(errors.Join(err, d.Flush(), d.Close()))
	w.snapshot(v, "s")
	w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
	for _, format := range []string{"raw", "qcow2", "vmdk", "vdi", "vhd"} {
		w.Run(format, func(t *testing.T) {
			r, err := w.Driver.Read(t.Context(), v, "s", format)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			img, err := blockdev.Inspect(bytes.NewReader(data))
			if err != nil || string(img.Format) != format || img.VirtualSize != 8*mib || img.Safe() != nil {
				t.Fatalf("%+v, %v, %v", img, err, img.Safe())
			}
			if !bytes.Equal(toRaw(t, format, data), content) {
				t.Error("the image has other content than the volume")
			}
		})
	}
	_, err = w.Driver.Read(w.Context(), v, "s", "qed")
	w.refused(errs.Invalid, err)
}

func toRaw(t *testing.T, format string, data []byte) []byte {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if format == "vhd" {
		format = "vpc"
	}
	cmd := exec.Command("qemu-img", "convert", "-f", format, "-O", "raw", "image", "raw")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (w *world) absent() {
	v := ref()
	ctx := w.Context()
	w.must(w.Driver.Delete(ctx, v))
	w.must(w.Driver.DeleteSnapshot(ctx, v, "s", nil))
	w.must(w.Driver.Unlink(ctx, v, w.TempDir()))
	for what, err := range map[string]error{
		"extend": w.Driver.Extend(ctx, v, mib, nil), "snapshot": w.Driver.Snapshot(ctx, v, "s", nil), "revert": w.Driver.Revert(ctx, v, "s"),
	} {
		if !errs.Is(err, errs.NotFound) {
			w.Errorf("%s: %v", what, err)
		}
	}
	_, err := w.Driver.Open(ctx, v, "")
	w.refused(errs.NotFound, err)
	_, err = w.Driver.Link(ctx, v, w.TempDir())
	w.refused(errs.NotFound, err)
}

func (w *world) links() {
	v := w.make(ref(), 8*mib, volumes.Origin{Image: nil})
	dir := w.TempDir()
	for range 2 {
		if _, err := w.Driver.Link(w.Context(), v, dir); err != nil {
			w.Fatal(err)
		}
	}
	for range 2 {
		w.must(w.Driver.Unlink(w.Context(), v, dir))
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		w.Errorf("left behind: %v", left)
	}
	w.write(v, 0, mib, 1)
}

// settle bounds one operation of a test.
const settle = 4 * time.Minute

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, settle)
}
