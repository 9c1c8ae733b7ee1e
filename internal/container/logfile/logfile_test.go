package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// all reads what there is now.
func all(t *testing.T, path string) (out string, records int) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, records
		}
		if err != nil {
			t.Fatal(err)
		}
		out += string(rec.Chunk)
		records++
	}
}

func newWriter(t *testing.T, path string, l Limits) *Writer {
	t.Helper()
	w, err := NewWriter(path, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestBinaryChunks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, Limits{})
	var want []byte
	for i := range 256 {
		want = append(want, byte(i))
	}
	if err := w.Copy(Stdout, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if got, _ := all(t, path); got != string(want) {
		t.Errorf("read %q", got)
	}
}

// A record that a power cut left torn is no record, and the next writer goes on before it.
func TestTornTail(t *testing.T) {
	for cut := int64(1); cut < headerSize+4; cut++ {
		path := filepath.Join(t.TempDir(), "log")
		w := newWriter(t, path, Limits{})
		for _, s := range []string{"one ", "two "} {
			if err := w.Write(Stdout, []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(path, 2*(headerSize+4)-cut); err != nil {
			t.Fatal(err)
		}
		if got, _ := all(t, path); got != "one " {
			t.Fatalf("cut by %d: read %q", cut, got)
		}
		if err := newWriter(t, path, Limits{}).Write(Stderr, []byte("three")); err != nil {
			t.Fatal(err)
		}
		if got, _ := all(t, path); got != "one three" {
			t.Fatalf("cut by %d: read %q after the next write", cut, got)
		}
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, Limits{Size: 100, Files: 3})
	for i := range 40 {
		if err := w.Write(Stdout, fmt.Appendf(nil, "%03d ", i)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Errorf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Size() > 100 {
			t.Errorf("%s: %v, %v", f, fi.Size(), err)
		}
	}
	if got, n := all(t, path); n != 15 || got[len(got)-4:] != "039 " {
		t.Errorf("%d records: %q", n, got)
	}
}

// A follower that begins before the first byte gets every byte once, over rotations.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	const n = 2000
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error, 1)
	var got bytes.Buffer
	go func() {
		done <- r.Follow(ctx, func(rec Record) (bool, error) {
			got.Write(rec.Chunk)
			return rec.Stream == End, nil
		})
	}()
	w := newWriter(t, path, Limits{Size: 4000, Files: 100})
	var want bytes.Buffer
	for i := range n {
		line := fmt.Appendf(nil, "line %d\n", i)
		want.Write(line)
		if err := w.Write(Stdout, line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(End, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("followed %d bytes of %d", got.Len(), want.Len())
	}
}

func TestOpenEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, Limits{})
	w.Write(Stdout, []byte("before"))
	r, err := OpenEnd(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("there is something at the end: %v", err)
	}
	w.Write(Stderr, []byte("after"))
	if rec, err := r.Next(); err != nil || string(rec.Chunk) != "after" || rec.Stream != Stderr {
		t.Errorf("%q, %v", rec.Chunk, err)
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, 64), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("garbage reads as %v", err)
	}
}

// TestRemovedLog reads on in a log that is removed: what it has, and then an end.
func TestRemovedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, path, Limits{})
	r, err := OpenEnd(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := w.Write(Stdout, []byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Next(); err != nil || string(rec.Chunk) != "last words" {
		t.Errorf("read %q, %v", rec.Chunk, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Next()
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a log that is gone has no end")
	}
}

// numbers writes until n, and tells what it has written.
func numbers(t *testing.T, w *Writer, n int, at *atomic.Int64) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			if err := w.Write(Stdout, fmt.Appendf(nil, "%05d\n", i)); err != nil {
				t.Error(err)
				return
			}
			at.Store(int64(i + 1))
		}
	}()
	return done
}

// TestHold has a writer wait for a reader, which so misses nothing.
func TestHold(t *testing.T) {
	for _, files := range []int{1, 2, 5} {
		path := filepath.Join(t.TempDir(), "log")
		w := newWriter(t, path, Limits{Size: 1000, Files: files})
		r, err := OpenEnd(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Hold(); err != nil {
			t.Fatal(err)
		}
		const n = 3000
		var at atomic.Int64
		done := numbers(t, w, n, &at)
		select {
		case <-done:
			t.Fatalf("%d files: the writer has not waited", files)
		case <-time.After(5 * look):
		}
		if most := int64(1000 / (headerSize + 6) * files); at.Load() > most {
			t.Errorf("%d files: the writer is at %d before it waits", files, at.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		next := 0
		err = r.Follow(ctx, func(rec Record) (bool, error) {
			if want := fmt.Sprintf("%05d\n", next); string(rec.Chunk) != want {
				return true, fmt.Errorf("read %q for %q", rec.Chunk, want)
			}
			next++
			return next == n, nil
		})
		cancel()
		if err := errors.Join(err, r.Close()); err != nil {
			t.Errorf("%d files: %v", files, err)
		}
		<-done
		if left, _ := filepath.Glob(path + "*"); len(left) > files {
			t.Errorf("left: %v", left)
		}
	}
}

// TestHoldEnds lets the writer go on when the reader is gone, and when it is told so.
func TestHoldEnds(t *testing.T) {
	for what, end := range map[string]func(*Reader, *Writer){"closed": func(r *Reader, _ *Writer) { r.Close() }, "released": func(_ *Reader, w *Writer) { w.Release(); w.Release() }} {
		path := filepath.Join(t.TempDir(), "log")
		w := newWriter(t, path, Limits{Size: 1000, Files: 2})
		r, err := OpenEnd(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Hold(); err != nil {
			t.Fatal(err)
		}
		var at atomic.Int64
		done := numbers(t, w, 1000, &at)
		select {
		case <-done:
			t.Fatalf("%s: the writer has not waited", what)
		case <-time.After(5 * look):
		}
		end(r, w)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the writer waits at %d", what, at.Load())
		}
	}
}

// TestPin reads all files of a log that is removed.
func TestPin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "of")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	w := newWriter(t, path, Limits{Size: 200, Files: 9})
	r, err := OpenEnd(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 30 {
		if err := w.Write(Stdout, fmt.Appendf(nil, "%d ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(r.Pin(), r.Pin(), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if rec, err := r.Next(); err != nil || string(rec.Chunk) != fmt.Sprintf("%d ", i) {
			t.Fatalf("record %d: %q, %v", i, rec.Chunk, err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
