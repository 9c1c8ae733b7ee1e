package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/needs"
)

// world is a root with a secret beside it, and links in it that try to lead there.
func world(t *testing.T) (*Root, string, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "root")
	}
	top := t.TempDir()
	root := filepath.Join(top, "root")
	check(t, os.MkdirAll(filepath.Join(root, "dir", "sub"), 0o755))
	check(t, os.WriteFile(filepath.Join(root, "dir", "file"), []byte("inside"), 0o640))
	check(t, os.WriteFile(filepath.Join(top, "secret"), []byte("outside"), 0o600))
	for name, to := range map[string]string{"abs": "/dir", "up": "../../../../dir", "out": "../secret", "host": top, "dangling": "/nowhere", "loop": "loop", "dir/back": "..", "tofile": "/dir/file"} {
		check(t, os.Symlink(to, filepath.Join(root, name)))
	}
	r, err := Open(root)
	check(t, err)
	t.Cleanup(func() { r.Close() })
	return r, root, top
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStat(t *testing.T) {
	r, _, _ := world(t)
	for _, c := range []struct {
		path, name, target string
		mode               fs.FileMode
		err                error
	}{
		{"/dir", "dir", "", fs.ModeDir | 0o755, nil},
		{"dir/file", "file", "", 0o640, nil},
		{"/abs", "abs", "/dir", fs.ModeSymlink | 0o777, nil},
		{"/abs/", "abs", "", fs.ModeDir | 0o755, nil},
		{"/abs/.", ".", "", fs.ModeDir | 0o755, nil},
		{"/up/file", "file", "", 0o640, nil},
		{"/dir/back/abs/sub", "sub", "", fs.ModeDir | 0o755, nil},
		{"/out", "out", "/secret", fs.ModeSymlink | 0o777, nil},
		{"/dangling", "dangling", "/nowhere", fs.ModeSymlink | 0o777, nil},
		{"/", "/", "", fs.ModeDir | 0o755, nil},
		{"/../..", "/", "", fs.ModeDir | 0o755, nil},
		{"/out/", "", "", 0, fs.ErrNotExist},
		{"/host/secret", "", "", 0, fs.ErrNotExist},
		{"/none", "", "", 0, fs.ErrNotExist},
		{"/loop/x", "", "", 0, unix.ELOOP},
		{"/dir/file/", "", "", 0, unix.ENOTDIR},
		{"/dir/file/x", "", "", 0, unix.ENOTDIR},
	} {
		st, err := r.Stat(c.path)
		if !errors.Is(err, c.err) || err == nil && (st.Name != c.name || st.LinkTarget != c.target || st.Mode != c.mode) {
			t.Errorf("%s: %+v, %v", c.path, st, err)
		}
	}
}

// entries are the names in an archive, and the contents of files.
func entries(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		check(t, err)
		data, err := io.ReadAll(tr)
		check(t, err)
		out[h.Name] = string(h.Typeflag) + " " + h.Linkname + string(data)
	}
}

func TestPack(t *testing.T) {
	r, root, _ := world(t)
	check(t, os.Link(filepath.Join(root, "dir", "file"), filepath.Join(root, "dir", "same")))
	check(t, unix.Mkfifo(filepath.Join(root, "dir", "pipe"), 0o600))
	for path, want := range map[string]map[string]string{
		"/dir":     {"dir/": "5 ", "dir/back": "2 ..", "dir/file": "0 inside", "dir/same": "1 dir/file", "dir/sub/": "5 ", "dir/pipe": "6 "},
		"/abs/.":   {"./": "5 ", "./back": "2 ..", "./file": "0 inside", "./same": "1 ./file", "./sub/": "5 ", "./pipe": "6 "},
		"/up/file": {"file": "0 inside"},
		"/out":     {"out": "2 ../secret"},
	} {
		var b bytes.Buffer
		check(t, r.Pack(&b, path))
		if diff := cmp.Diff(want, entries(t, b.Bytes())); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	var b bytes.Buffer
	check(t, r.PackAll(&b))
	if got := entries(t, b.Bytes()); got["dir/file"] == "" || got["host"] == "" || got["./"] != "" {
		t.Errorf("all: %v", got)
	}
	if err := r.Pack(io.Discard, "/host/secret"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is outside: %v", err)
	}
}

type entry struct {
	kind       byte
	name, data string
}

func archive(t *testing.T, list ...entry) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: 0o751, Uid: 12, Gid: 34}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.data))
		} else {
			h.Linkname = e.data
		}
		check(t, w.WriteHeader(h))
		if e.kind == tar.TypeReg {
			_, err := w.Write([]byte(e.data))
			check(t, err)
		}
	}
	check(t, w.Close())
	return &b
}

func TestUnpack(t *testing.T) {
	r, root, top := world(t)
	check(t, r.Unpack(archive(t, entry{tar.TypeDir, "new/", ""}, entry{tar.TypeReg, "new/a", "A"}, entry{tar.TypeReg, "deep/er/b", "B"}, entry{tar.TypeLink, "c", "new/a"}, entry{tar.TypeSymlink, "l", "/etc/passwd"}), "/abs", UnpackOptions{}))
	for name, want := range map[string]string{"dir/new/a": "A", "dir/deep/er/b": "B", "dir/c": "A"} {
		raw, err := os.ReadFile(filepath.Join(root, name))
		var st syscall.Stat_t
		if err != nil || string(raw) != want || syscall.Stat(filepath.Join(root, name), &st) != nil || st.Uid != 12 || st.Gid != 34 || st.Mode&0o777 != 0o751 {
			t.Errorf("%s: %q, %v, %d:%d %o", name, raw, err, st.Uid, st.Gid, st.Mode)
		}
	}
	check(t, r.Unpack(archive(t, entry{tar.TypeReg, "a", "A"}), "/dir", UnpackOptions{Owner: &Owner{5, 6}}))
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(root, "dir", "a"), &st); err != nil || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("given owner: %v, %d:%d", err, st.Uid, st.Gid)
	}
	// Names and links that lead out of the root.
	for _, e := range []entry{{tar.TypeReg, "../secret", "stolen"}, {tar.TypeReg, "../../../secret", "stolen"}, {tar.TypeReg, "out", "stolen"}, {tar.TypeReg, "dir/back/../secret", "stolen"}} {
		check(t, r.Unpack(archive(t, e), "/", UnpackOptions{}))
	}
	r.Unpack(archive(t, entry{tar.TypeReg, "host/secret", "stolen"}), "/", UnpackOptions{})
	r.Unpack(archive(t, entry{tar.TypeSymlink, "evil", top}, entry{tar.TypeReg, "evil/secret", "stolen"}), "/", UnpackOptions{})
	r.Unpack(archive(t, entry{tar.TypeLink, "stolen", "../secret"}), "/", UnpackOptions{})
	if raw, err := os.ReadFile(filepath.Join(top, "secret")); err != nil || string(raw) != "outside" {
		t.Errorf("the secret is %q, %v", raw, err)
	}
	if err := r.Unpack(archive(t), "/dir/file", UnpackOptions{}); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("into a file: %v", err)
	}
	var bad BadArchive
	if err := r.Unpack(strings.NewReader(strings.Repeat("no archive ", 100)), "/dir", UnpackOptions{}); !errors.As(err, &bad) {
		t.Errorf("no archive: %v", err)
	}
}

func TestKeepKind(t *testing.T) {
	r, root, _ := world(t)
	var bad BadArchive
	for _, e := range []entry{{tar.TypeReg, "sub", "x"}, {tar.TypeDir, "file/", ""}} {
		if err := r.Unpack(archive(t, e), "/dir", UnpackOptions{KeepKind: true}); !errors.As(err, &bad) || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	check(t, os.WriteFile(filepath.Join(root, "dir", "sub", "x"), nil, 0o600))
	check(t, r.Unpack(archive(t, entry{tar.TypeReg, "sub", "x"}, entry{tar.TypeDir, "file/", ""}), "/dir", UnpackOptions{}))
	if fi, err := os.Stat(filepath.Join(root, "dir", "file")); err != nil || !fi.IsDir() {
		t.Errorf("a file is not replaced: %v", err)
	}
}

// overlay mounts an overlay at dir.
func overlay(top string) func(string) error {
	return func(dir string) error {
		return unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+top+"/low1:"+top+"/low0,upperdir="+top+"/up,workdir="+top+"/work")
	}
}

func TestMountAndChanges(t *testing.T) {
	if os.Geteuid() != 0 {
		needs.Missing(t, "root")
	}
	top := t.TempDir()
	for _, d := range []string{"low0/a/b", "low0/gone", "low0/kept", "low0/replaced", "low1/late", "up", "work", "at"} {
		check(t, os.MkdirAll(filepath.Join(top, d), 0o755))
	}
	for _, f := range []string{"low0/a/b/old", "low0/gone/x", "low0/kept/y", "low0/replaced/z", "low1/late/v", "low0/file"} {
		check(t, os.WriteFile(filepath.Join(top, f), []byte(f), 0o644))
	}
	at := filepath.Join(top, "at")
	r, err := Mount(at, overlay(top))
	check(t, err)
	if list, err := os.ReadDir(at); err != nil || len(list) > 0 {
		t.Errorf("the mount is seen outside: %v, %v", list, err)
	}
	check(t, r.Unpack(archive(t, entry{tar.TypeReg, "a/b/new", ""}, entry{tar.TypeReg, "late/v", "changed"}, entry{tar.TypeReg, "file", "changed"}, entry{tar.TypeReg, "gone", "now a file"}), "/", UnpackOptions{}))
	dir, err := r.open("/", unix.O_PATH|unix.O_DIRECTORY)
	check(t, err)
	check(t, removeAll(dir, "replaced"))
	check(t, unix.Mkdirat(int(dir.Fd()), "replaced", 0o755)) // opaque
	kept, err := r.open("/kept", unix.O_PATH|unix.O_DIRECTORY)
	check(t, err)
	check(t, unix.Unlinkat(int(kept.Fd()), "y", 0))
	check(t, errors.Join(kept.Close(), dir.Close(), r.Close()))
	got, err := Changes(t.Context(), filepath.Join(top, "up"), []string{filepath.Join(top, "low1"), filepath.Join(top, "low0")})
	check(t, err)
	var lines []string
	for _, c := range got {
		lines = append(lines, c.Kind.String()+" "+c.Path)
	}
	want := []string{"C /a", "C /a/b", "A /a/b/new", "C /file", "C /gone", "C /kept", "D /kept/y", "C /late", "C /late/v", "C /replaced"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if _, err := Mount(at, func(string) error { return unix.EACCES }); !errors.Is(err, unix.EACCES) {
		t.Errorf("a mount that fails: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	_, root, top := world(t)
	r, err := Mount(top, func(string) error {
		if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	})
	check(t, err)
	defer r.Close()
	if err := r.Unpack(archive(t, entry{tar.TypeReg, "x", ""}), "/root/dir", UnpackOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("into what is read-only: %v", err)
	}
}
