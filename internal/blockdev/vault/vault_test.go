package vault

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/blockdev/nbd"
	"github.com/strata-cloud/strata/internal/errs"
)

// memory is a device; its map tells about one page at a time.
type memory []byte

func (m memory) Size() int64                              { return int64(len(m)) }
func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Close() error                             { return nil }
func (m memory) Flush() error                             { return nil }
func (m memory) Zero(off, n int64) error                  { clear(m[off : off+n]); return nil }

func (m memory) Map(off, n int64) ([]nbd.Extent, error) {
	n = min(n, 3<<18)
	return []nbd.Extent{{Length: n, Zero: allZero(m[off : off+n])}}, nil
}

func content(seed byte, chunks int) memory {
	d := make(memory, chunks*ChunkSize+4096)
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := 0; i < len(d); i += 64 << 10 {
		if rng.IntN(3) > 0 {
			for j := i; j < min(len(d), i+64<<10); j++ {
				d[j] = byte(rng.Uint32())
			}
		}
	}
	clear(d[2*ChunkSize : min(len(d), 5*ChunkSize)])
	return d
}

func chunks(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, kindChunk), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func newVault(t *testing.T) (*Vault, string) {
	dir := filepath.Join(t.TempDir(), "backups")
	f, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return New(f), dir
}

func TestBackups(t *testing.T) {
	for name, key := range map[string][]byte{"clear": nil, "sealed": []byte("secret")} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			v, dir := newVault(t)
			one := content(1, 8)
			first, err := v.Make(ctx, "one", "", key, one)
			if err != nil || first.Objects != 6 || first.Bytes < 1<<20 {
				t.Fatalf("%+v, %v", first, err)
			}
			if again, err := v.Make(ctx, "one", "", key, content(9, 5)); err != nil || again != first {
				t.Errorf("made again: %+v, %v", again, err)
			}
			two := bytes.Clone(one)
			copy(two[6*ChunkSize:], "changed")
			second, err := v.Make(ctx, "two", "one", key, memory(two))
			if err != nil || second.Objects != 6 || second.Bytes > ChunkSize+1024 || second.Bytes == 0 {
				t.Errorf("incremental: %+v, %v", second, err)
			}
			if key != nil {
				other := make(memory, len(one))
				if err := v.Restore(ctx, "one", []byte("another"), other); err == nil {
					t.Error("restored with another key")
				}
				if err := v.Restore(ctx, "one", nil, other); !errs.Is(err, errs.Invalid) {
					t.Errorf("restored without the key: %v", err)
				}
			}
			for range 2 {
				if err := v.Delete(ctx, "one"); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(chunks(t, dir)); n != 6 {
				t.Errorf("%d chunks are left, want 6", n)
			}
			back := memory(bytes.Repeat([]byte{7}, len(two)+1<<20))
			if err := v.Restore(ctx, "two", key, back); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(back[:len(two)], two) || !allZero(back[len(two):]) {
				t.Error("what was restored is not what was stored")
			}
			if err := v.Restore(ctx, "two", key, make(memory, 1<<20)); !errs.Is(err, errs.Invalid) {
				t.Errorf("restored into what is too small: %v", err)
			}
			if err := v.Delete(ctx, "two"); err != nil {
				t.Fatal(err)
			}
			if n := len(chunks(t, dir)); n != 0 {
				t.Errorf("%d chunks are left of nothing", n)
			}
			if _, err := v.Make(ctx, "three", "two", key, one); !errs.Is(err, errs.NotFound) {
				t.Errorf("on a parent that is gone: %v", err)
			}
		})
	}
}

func TestDamageIsNoticed(t *testing.T) {
	ctx := t.Context()
	v, dir := newVault(t)
	if _, err := v.Make(ctx, "a", "", nil, content(1, 4)); err != nil {
		t.Fatal(err)
	}
	path := chunks(t, dir)[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Restore(ctx, "a", nil, content(2, 4)); err == nil {
		t.Error("a damaged chunk was restored")
	}
	manifest := filepath.Join(dir, kindManifest, "a", "a")
	if err := os.WriteFile(manifest, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Delete(ctx, "other"); err == nil {
		t.Error("chunks were collected beside a damaged manifest")
	}
	if len(chunks(t, dir)) == 0 {
		t.Error("chunks of a damaged manifest are gone")
	}
	if err := v.Delete(ctx, "a"); err != nil || len(chunks(t, dir)) != 0 {
		t.Errorf("a damaged backup stays: %v", err)
	}
}

// failing fails after some calls that change something, as a crash does.
type failing struct {
	Blobs
	left int
}

var errCrash = errors.New("crash")

func (f *failing) spend() error {
	if f.left--; f.left < 0 {
		return errCrash
	}
	return nil
}

func (f *failing) Put(ctx context.Context, name string, data []byte) error {
	if err := f.spend(); err != nil {
		return err
	}
	return f.Blobs.Put(ctx, name, data)
}

func (f *failing) Delete(ctx context.Context, name string) error {
	if err := f.spend(); err != nil {
		return err
	}
	return f.Blobs.Delete(ctx, name)
}

// TestCrashes stops making and removing backups after each step there is.
func TestCrashes(t *testing.T) {
	ctx := t.Context()
	kept, changed := content(1, 6), content(1, 6)
	copy(changed[ChunkSize:], "changed")
	copy(changed[5*ChunkSize:], "changed")
	for step := 0; ; step++ {
		dir := filepath.Join(t.TempDir(), "b")
		files, err := NewFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(files).Make(ctx, "kept", "", nil, kept); err != nil {
			t.Fatal(err)
		}
		f := &failing{files, step}
		v := New(f)
		_, err = v.Make(ctx, "new", "kept", nil, changed)
		if err == nil {
			err = v.Delete(ctx, "new")
		}
		v = New(files)
		back := make(memory, len(kept))
		if e := v.Restore(ctx, "kept", nil, back); e != nil || !bytes.Equal(back, kept) {
			t.Fatalf("step %d: %v", step, e)
		}
		if _, e := v.Make(ctx, "new", "kept", nil, changed); e != nil {
			t.Fatal(e)
		}
		if e := v.Restore(ctx, "new", nil, back); e != nil || !bytes.Equal(back, changed) {
			t.Fatalf("step %d: %v", step, e)
		}
		if e := errors.Join(v.Delete(ctx, "new"), v.Delete(ctx, "kept")); e != nil || len(chunks(t, dir)) != 0 {
			t.Fatalf("step %d: %v, %d chunks left", step, e, len(chunks(t, dir)))
		}
		if err == nil {
			if step < 4 {
				t.Errorf("only %d steps", step)
			}
			return
		}
	}
}

func TestRecords(t *testing.T) {
	ctx := t.Context()
	v, dir := newVault(t)
	if _, err := v.Record(ctx, "AAAA", "one"); !errs.Is(err, errs.Invalid) {
		t.Errorf("before any export: %v", err)
	}
	key, data := []byte("secret"), content(1, 6)
	for id, d := range map[string]memory{"one": data, "other": content(2, 6)} {
		if _, err := v.Make(ctx, id, "", key, d); err != nil {
			t.Fatal(err)
		}
	}
	text, err := v.Export(ctx, "one", []byte("a note with the key"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewFiles(dir) // as after a restart, or elsewhere
	if err != nil {
		t.Fatal(err)
	}
	v = New(again)
	r, err := v.Record(ctx, text, "two")
	if err != nil || string(r.Note) != "a note with the key" || r.Size != data.Size() {
		t.Fatalf("%+v, %v", r, err)
	}
	foreign, _ := newVault(t)
	if _, err := foreign.Make(ctx, "one", "", key, data); err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.Export(ctx, "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(text)
	flipped[len(flipped)/2] ^= 1
	for _, bad := range []string{"", "!", "AAAA", forged, string(flipped), text[:len(text)-4]} {
		if _, err := v.Record(ctx, bad, "two"); !errs.Is(err, errs.Invalid) {
			t.Errorf("%.10s...: %v", bad, err)
		}
	}
	if _, err := v.Import(ctx, "other", text); !errs.Is(err, errs.Conflict) {
		t.Errorf("over another backup: %v", err)
	}
	if _, err := v.Import(ctx, "../x", text); !errs.Is(err, errs.Invalid) {
		t.Errorf("a bad id: %v", err)
	}
	for range 2 {
		if res, err := v.Import(ctx, "two", text); err != nil || res.Objects == 0 || res.Bytes != 0 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if _, err := v.Import(ctx, "one", text); err != nil { // itself
		t.Error(err)
	}
	if err := errors.Join(v.Delete(ctx, "one"), v.Delete(ctx, "other")); err != nil {
		t.Fatal(err)
	}
	back := make(memory, len(data))
	if err := v.Restore(ctx, "two", key, back); err != nil || !bytes.Equal(back, data) {
		t.Errorf("what was imported: %v", err)
	}
	if _, err := v.Record(ctx, text, "three"); !errs.Is(err, errs.NotFound) {
		t.Errorf("of a backup that is gone: %v", err)
	}
}
