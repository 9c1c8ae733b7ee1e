package blockdevtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func (w *world) encryption() {
	if !w.Encryption {
		w.Skip("the driver does not encrypt")
	}
	v := ref()
	v.Key = []byte("correct horse battery staple")
	w.make(v, 8*mib, volumes.Origin{})
	w.write(v, 0, mib, 'P')
	w.snapshot(v, "s")
	w.must(w.Driver.Extend(w.Context(), v, 16*mib, nil))
	w.write(v, 9*mib, mib, 'Q')
	w.check(v, "s", 0, mib, 'P')
	for what, key := range map[string][]byte{"no key": nil, "another key": []byte("x")} {
		other := nodeapi.VolumeRef{ID: v.ID, Key: key}
		if d, err := w.Driver.Open(w.Context(), other, ""); err == nil {
			w.Errorf("it opens with %s", what)
			d.Close()
		}
	}
	// Each way into another volume.
	image := ref()
	image.Key = []byte("second")
	w.make(image, 32*mib, volumes.Origin{Image: w.image(blockdev.QCOW2)})
	w.check(image, "", mib, mib, 6)
	again := ref()
	again.Key = []byte("third")
	w.make(again, 16*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
	w.check(again, "", 0, mib, 'P')
	w.check(again, "", 8*mib, mib, 0)
	w.plaintext('P', 'Q', 6)
	plain := w.make(ref(), 8*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
	w.check(plain, "", 0, mib, 'P')
	back := ref()
	back.Key = []byte("fourth")
	w.snapshot(plain, "s")
	w.make(back, 8*mib, volumes.Origin{Volume: &plain, Snapshot: "s"})
	w.check(back, "", 0, mib, 'P')
	w.must(w.Driver.Revert(w.Context(), v, "s"))
	w.check(v, "", 0, mib, 'P')
	r, err := w.Driver.Read(w.Context(), v, "s", "raw")
	w.must(err)
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || len(data) != 8*mib || !bytes.Equal(data[:mib], bytes.Repeat([]byte{'P'}, mib)) {
		w.Errorf("read %d bytes, %v", len(data), err)
	}
	_, err = w.Driver.Read(w.Context(), v, "s", "qcow2")
	w.refused(errs.Invalid, err)
}

// plaintext fails when what the driver stores has a page of one of the patterns in it.
func (w *world) plaintext(patterns ...byte) {
	w.Helper()
	if w.Dir == "" {
		return
	}
	w.must(filepath.WalkDir(w.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, p := range patterns {
			if bytes.Contains(data, bytes.Repeat([]byte{p}, 4096)) {
				w.Errorf("%s has plaintext %d in it", path, p)
			}
		}
		return err
	}))
}

// interrupted kills the working process at moments spread over each operation, as
// the end of a context does, and starts with a new driver then.
func (w *world) interrupted() {
	v := w.make(ref(), 64*mib, volumes.Origin{})
	w.write(v, 0, 32*mib, 1)
	w.snapshot(v, "s")
	w.write(v, 0, mib, 2)
	target := ref()
	for _, c := range []struct {
		name string
		do   func(context.Context) error
		undo func(context.Context) error
	}{
		{"clone", func(ctx context.Context) error {
			return w.Driver.Create(ctx, target, 64*mib, volumes.Origin{Volume: &v, Snapshot: "s"})
		},
			func(ctx context.Context) error { return w.Driver.Delete(ctx, target) }},
		{"snapshot", func(ctx context.Context) error { return w.Driver.Snapshot(ctx, v, "t", nil) },
			func(ctx context.Context) error { return w.Driver.DeleteSnapshot(ctx, v, "t", nil) }},
		{"delete snapshot", func(ctx context.Context) error { return w.Driver.DeleteSnapshot(ctx, v, "t", nil) },
			func(ctx context.Context) error { return w.Driver.Snapshot(ctx, v, "t", nil) }},
		{"extend", func(ctx context.Context) error { return w.Driver.Extend(ctx, v, 128*mib, nil) },
			func(ctx context.Context) error { return w.Driver.Revert(ctx, v, "now") }},
		{"revert", func(ctx context.Context) error { return w.Driver.Revert(ctx, v, "now") },
			func(context.Context) error { w.write(v, 0, mib, 3); return nil }},
	} {
		w.Run(c.name, func(t *testing.T) {
			w := &world{T: t, Kit: w.Kit}
			if ok, err := w.Driver.Exists(t.Context(), v); !ok || err != nil {
				t.Fatal(ok, err)
			}
			w.snapshot(v, "now")
			w.interrupt(v, c.do, c.undo)
			w.check(v, "s", 0, 32*mib, 1)
			w.check(v, "now", 0, mib, 2)
		})
	}
	w.check(v, "s", 0, 32*mib, 1)
}

// interrupt tries do with ever more time until it gets through, then once more.
func (w *world) interrupt(v nodeapi.VolumeRef, do, undo func(context.Context) error) {
	ctx, cancel := bounded(w.Context())
	defer cancel()
	w.must(undo(ctx))
	cut := 0
	for pause := 500 * time.Microsecond; ; pause *= 2 {
		part, stop := context.WithTimeout(ctx, pause)
		err := do(part)
		stop()
		w.Driver = w.Again()
		w.check(v, "s", 0, mib, 1)
		if err == nil {
			break
		}
		cut++
		if ctx.Err() != nil {
			w.Fatal(err)
		}
	}
	if cut == 0 {
		w.Error("it was never interrupted")
	}
	w.must(do(ctx))
	w.must(undo(ctx))
	w.must(do(ctx))
	w.must(undo(ctx))
}
