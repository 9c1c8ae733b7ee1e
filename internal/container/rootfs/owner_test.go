package rootfs

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/idmap"
)

func shifting() *idmap.Map {
	m := &idmap.Map{}
	m.UIDMaps, m.GIDMaps = []user.IDMap{{ParentID: 100000, Count: 65536}}, []user.IDMap{{ParentID: 200000, Count: 65536}}
	return m
}

// TestShiftedUnpack has what an archive says of owners mean the container's, and what it
// does not mention be the container's root's.
func TestShiftedUnpack(t *testing.T) {
	r, root, _ := world(t)
	r.Shifted(shifting())
	caps := append([]byte{0, 0, 0, 2}, make([]byte, capSize2-4)...)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, w.WriteHeader(&tar.Header{Name: "new/deep/file", Mode: 0o755, Uid: 1000, Gid: 50, Typeflag: tar.TypeReg, PAXRecords: map[string]string{paxXattr + capability: string(caps)}}))
	check(t, w.Close())
	archive := b.Bytes()
	check(t, r.Unpack(bytes.NewReader(archive), "/dir", UnpackOptions{}))
	for path, want := range map[string][2]uint32{"dir/new": {100000, 200000}, "dir/new/deep": {100000, 200000}, "dir/new/deep/file": {101000, 200050}} {
		var st unix.Stat_t
		check(t, unix.Stat(filepath.Join(root, path), &st))
		if got := [2]uint32{st.Uid, st.Gid}; got != want {
			t.Errorf("%s is of %v, want %v", path, got, want)
		}
	}
	var out bytes.Buffer
	check(t, r.Pack(&out, "/dir/new/deep/file"))
	h, err := tar.NewReader(&out).Next()
	check(t, err)
	if h.Uid != 1000 || h.Gid != 50 || h.PAXRecords[paxXattr+capability] != string(caps) {
		t.Errorf("packed again: %d:%d, %q", h.Uid, h.Gid, h.PAXRecords)
	}
	check(t, r.Unpack(bytes.NewReader(archive), "/dir", UnpackOptions{Owner: &Owner{7, 8}}))
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(root, "dir/new/deep/file"), &st))
	if st.Uid != 100007 || st.Gid != 200008 {
		t.Errorf("for another owner: %d:%d", st.Uid, st.Gid)
	}
}

// TestShiftedStrangers has files of no one of the container's packed as nobody's, and
// makes none.
func TestShiftedStrangers(t *testing.T) {
	r, root, _ := world(t)
	r.Shifted(shifting())
	var out bytes.Buffer
	check(t, r.Pack(&out, "/dir/file"))
	h, err := tar.NewReader(&out).Next()
	check(t, err)
	if h.Uid != nobody || h.Gid != nobody {
		t.Errorf("a file of the host's root is packed as %d:%d", h.Uid, h.Gid)
	}
	check(t, os.Chown(filepath.Join(root, "dir/file"), 100003, 9))
	out.Reset()
	check(t, r.Pack(&out, "/dir/file"))
	if h, err = tar.NewReader(&out).Next(); err != nil || h.Uid != 3 || h.Gid != nobody {
		t.Errorf("a file with a stranger for a group: %d:%d, %v", h.Uid, h.Gid, err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(t, w.WriteHeader(&tar.Header{Name: "x", Mode: 0o644, Uid: 100000, Typeflag: tar.TypeReg}))
	check(t, w.Close())
	var bad BadArchive
	if err := r.Unpack(&b, "/dir", UnpackOptions{}); !errors.As(err, &bad) {
		t.Errorf("an owner who is no one: %v", err)
	}
}
