package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archive makes a tar of headers; a regular file has its name as contents.
func archive(t *testing.T, heads ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range heads {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write([]byte(h.Name))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	raw := archive(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750},
		tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "deep/er/f", Typeflag: tar.TypeReg, Mode: 0o600},
		tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d/f"},
		tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "s", Typeflag: tar.TypeReg, Mode: 0o644}, // in the link's place, not through it
	)
	var z bytes.Buffer
	gz := gzip.NewWriter(&z)
	gz.Write(raw)
	gz.Close()
	for name, in := range map[string][]byte{"plain": raw, "gzip": z.Bytes()} {
		dir := t.TempDir()
		if err := unpack(bytes.NewReader(in), dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for file, want := range map[string]string{"d/f": "d/f", "deep/er/f": "deep/er/f", "s": "s", "h": "d/f"} {
			if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
				t.Errorf("%s: %s is %q, %v", name, file, got, err)
			}
		}
		if fi, err := os.Stat(filepath.Join(dir, "d/f")); err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "null")); !os.IsNotExist(err) {
			t.Errorf("%s: a device was made: %v", name, err)
		}
	}
}

func TestUnpackHostile(t *testing.T) {
	for name, heads := range map[string][]tar.Header{
		"a name":            {{Name: "../escaped", Typeflag: tar.TypeReg}},
		"a name within":     {{Name: "a/../../escaped", Typeflag: tar.TypeReg}},
		"a hard link":       {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../secret"}},
		"through a link":    {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/escaped", Typeflag: tar.TypeReg}},
		"an absolute link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, {Name: "l/escaped", Typeflag: tar.TypeReg}},
		"a link to a link":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l"}, {Name: "h/x", Typeflag: tar.TypeReg}},
		"a directory's end": {{Name: "..", Typeflag: tar.TypeDir}},
	} {
		top := t.TempDir()
		dir := filepath.Join(top, "context")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, "secret"), []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpack(bytes.NewReader(archive(t, heads...)), dir); err == nil {
			t.Errorf("%s leads out, and no one minds", name)
		}
		if _, err := os.Stat(filepath.Join(top, "escaped")); !os.IsNotExist(err) {
			t.Errorf("%s has led out: %v", name, err)
		}
	}
	if err := unpack(strings.NewReader("no archive at all, but long enough to be taken for something else"), t.TempDir()); err == nil {
		t.Error("what is no archive was unpacked")
	}
	var b bytes.Buffer
	tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "hole", Size: 1 << 55})
	if err := unpack(bytes.NewReader(b.Bytes()), t.TempDir()); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("a huge file: %v", err)
	}
}
