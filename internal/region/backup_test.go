package region

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

type note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// openNotes opens the store of a data directory with one collection.
func openNotes(t *testing.T, dir string) (*store.DB, *store.Collection[note]) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b, err := store.NewEtcd(t.Context(), store.EtcdOptions{Dir: filepath.Join(dir, "store"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Options{Backend: b, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	notes := store.Register(db, store.Schema[note]{Service: "test", Kind: "note", Version: 1, ID: func(n *note) string { return n.ID }})
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, notes
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// cloudDir is the data directory of a stopped region that knows one note.
func cloudDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	write(t, dir, map[string]string{CloudsFile: "clouds: {}\n", policyFile: "{}\n", "images/abc": "image", "notes.txt": "the operator's"})
	db, notes := openNotes(t, dir)
	if err := notes.Create(t.Context(), &note{ID: "1", Text: "kept"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func restore(t *testing.T, file, dir string, replace bool) (*Restored, error) {
	t.Helper()
	return Restore(t.Context(), RestoreOptions{File: file, DataDir: dir, Replace: replace, Progress: func(s string) { t.Log(s) }})
}

func TestBackupAndRestore(t *testing.T) {
	dir := cloudDir(t)
	file := filepath.Join(t.TempDir(), "b.zip")
	m, err := Backup(t.Context(), dir, file, "v1", Stopped{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != m.Size {
		t.Errorf("%v, %v; %d", fi, err, m.Size)
	}
	if len(m.Files) != 3 || m.Images["abc"] != 5 {
		t.Errorf("manifest %+v", m)
	}
	target := filepath.Join(t.TempDir(), "new", "data")
	done, err := restore(t, file, target, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Missing) != 1 || done.Missing[0] != "abc" || done.Aside != "" {
		t.Errorf("%+v", done)
	}
	if raw, err := os.ReadFile(filepath.Join(target, CloudsFile)); err != nil || string(raw) != "clouds: {}\n" {
		t.Errorf("%q, %v", raw, err)
	}
	db, notes := openNotes(t, target)
	defer db.Close()
	if n, err := notes.Get("1"); err != nil || n.Text != "kept" {
		t.Errorf("%v, %v", n, err)
	}
}

// A directory with a cloud is refused, and with Replace its store is put aside.
func TestRestoreOverACloud(t *testing.T) {
	dir := cloudDir(t)
	file := filepath.Join(t.TempDir(), "b.zip")
	if _, err := Backup(t.Context(), dir, file, "v1", Stopped{DataDir: dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	db, notes := openNotes(t, dir)
	if _, err := notes.Update(t.Context(), "1", func(n *note) error { n.Text = "changed"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, file, dir, false); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("%v", err)
	}
	done, err := restore(t, file, dir, true)
	if err != nil || len(done.Missing) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := os.Stat(filepath.Join(done.Aside, "etcd")); err != nil {
		t.Error(err)
	}
	db, notes = openNotes(t, dir)
	defer db.Close()
	if n, err := notes.Get("1"); err != nil || n.Text != "kept" {
		t.Errorf("%v, %v", n, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	dir := cloudDir(t)
	whole := filepath.Join(t.TempDir(), "b.zip")
	if _, err := Backup(t.Context(), dir, whole, "v1", Stopped{DataDir: dir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(raw)
	flipped[len(flipped)/3] ^= 0xff
	for name, content := range map[string][]byte{
		"empty": {}, "text": []byte("hello, this is not a backup"), "cut off": raw[:len(raw)/2], "flipped": flipped,
		"foreign":    zipped(t, map[string]string{"readme": "x"}),
		"outside":    zipped(t, map[string]string{backupManifest: `{"format":1,"files":{"../evil":"00"}}`, "../evil": "x"}),
		"newer":      zipped(t, map[string]string{backupManifest: `{"format":99,"version":"v9"}`}),
		"wrong hash": zipped(t, map[string]string{backupManifest: `{"format":1,"files":{"store.snapshot":"00"}}`, backupStore: "x"}),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "b.zip")
			write(t, filepath.Dir(file), map[string]string{"b.zip": string(content)})
			target := filepath.Join(t.TempDir(), "data")
			if _, err := restore(t, file, target, false); err == nil {
				t.Fatal("it is restored")
			}
			if _, err := os.Stat(filepath.Join(target, "store", "etcd")); err == nil {
				t.Error("a store is left")
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(target), "evil")); err == nil {
				t.Error("a file is written outside of the data directory")
			}
		})
	}
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type failing struct{}

func (failing) Snapshot(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "half of it")
	return errors.Join(err, errors.New("connection lost"))
}

// A backup that fails leaves what was there before.
func TestBackupIsWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "b.zip")
	write(t, dir, map[string]string{"b.zip": "the last one"})
	if _, err := Backup(t.Context(), dir, file, "v1", failing{}); err == nil {
		t.Fatal("it succeeded")
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "the last one" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := os.Stat(file + ".part"); err == nil {
		t.Error("the half one is left")
	}
}
