package idmap

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

func TestCheck(t *testing.T) {
	for s, good := range map[string]bool{"default": true, "alice": true, "1000": true, "alice:staff": true, "1000:50": true, "": false, ":": false, "alice:": false, ":staff": false, "a:b:c": false, "default:staff": false} {
		if err := Check(s); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func files(t *testing.T, uids, gids string) Files {
	t.Helper()
	f := Files{filepath.Join(t.TempDir(), "subuid"), filepath.Join(t.TempDir(), "subgid")}
	for path, text := range map[string]string{f.SubUID: uids, f.SubGID: gids} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestLookup(t *testing.T) {
	f := files(t, "other:100000:65536\ndockremap:300000:1000\ndockremap:200000:64536\n", "dockremap:500000:65536\n")
	m, err := f.Lookup(Default)
	if err != nil {
		t.Fatal(err)
	}
	if want := []user.IDMap{{ID: 0, ParentID: 300000, Count: 1000}, {ID: 1000, ParentID: 200000, Count: 64536}}; !slices.Equal(m.UIDMaps, want) {
		t.Errorf("users %v, want %v", m.UIDMaps, want)
	}
	if uid, gid := m.RootPair(); uid != 300000 || gid != 500000 {
		t.Errorf("root is %d:%d", uid, gid)
	}
	if got, want := m.Shifted(), []string{"uidmap=0:300000:1000,1000:200000:64536", "gidmap=0:500000:65536"}; !slices.Equal(got, want) {
		t.Errorf("shifted by %q, want %q", got, want)
	}
	if got, want := m.Unshifted(), []string{"uidmap=300000:0:1000,200000:1000:64536", "gidmap=500000:0:65536"}; !slices.Equal(got, want) {
		t.Errorf("shifted back by %q, want %q", got, want)
	}
	if o := m.Owner(); len(o.UIDs) != 2 || o.UIDs[1].HostID != 200000 || o.GIDs[0].Size != 65536 {
		t.Errorf("owner %+v", o)
	}
	if (*Map)(nil).Owner() != nil || (*Map)(nil).Snapshot() != nil {
		t.Error("no map has an owner")
	}
}

// TestLookupFails has each error say what to do.
func TestLookupFails(t *testing.T) {
	good := "dockremap:100000:65536\n"
	for _, c := range []struct{ flag, uids, gids, says string }{
		{Default, "", good, "echo dockremap:100000:65536 >> "},
		{Default, "other:100000:65536\n", good, "echo dockremap:165536:65536 >> "},
		{Default, good, "other:100000:65536\n", "subgid"},
		{Default, "dockremap:0:65536\n", good, "root of the host"},
		{Default, "dockremap:100000:0\n", good, "cannot be"},
		{Default, "dockremap:4294967000:65536\n", good, "cannot be"},
		{Default, "dockremap:100000:65536\ndockremap:165535:10\n", good, "overlap at 165535"},
		{"root", good, good, "another user"},
		{"no-such-user", good, good, "useradd"},
		{"1:no-such-group", "1:100000:65536\n", good, "groupadd"},
		{"a:b:c", good, good, "USER:GROUP"},
	} {
		if _, err := files(t, c.uids, c.gids).Lookup(c.flag); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %q, %q: %v, want something with %q", c.flag, c.uids, c.gids, err, c.says)
		}
	}
	f := Files{filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "none")}
	if _, err := f.Lookup(Default); err == nil || !strings.Contains(err.Error(), "echo dockremap") {
		t.Errorf("without the files: %v", err)
	}
}

// TestByNumber has a user named by its number, and its ranges too.
func TestByNumber(t *testing.T) {
	f := files(t, "1:100000:65536\n", "1:100000:65536\n")
	if _, err := f.Lookup("1"); err != nil {
		t.Error(err)
	}
}

func TestReaches(t *testing.T) {
	m := &Map{}
	m.UIDMaps, m.GIDMaps = []user.IDMap{{ParentID: 100000, Count: 65536}}, []user.IDMap{{ParentID: 100000, Count: 65536}}
	top, err := os.MkdirTemp("", "reach-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	in := filepath.Join(top, "in")
	if err := os.Mkdir(in, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := m.Reaches(in); err == nil || !strings.Contains(err.Error(), "chmod o+x "+top) {
		t.Errorf("through a directory of 0700: %v", err)
	}
	if err := os.Chmod(top, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := m.Reaches(in); err != nil {
		t.Error(err)
	}
}
