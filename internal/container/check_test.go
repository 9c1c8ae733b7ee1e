package container

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

func TestCheckTar(t *testing.T) {
	for _, c := range []struct {
		head tar.Header
		want string
	}{
		{tar.Header{Name: "./etc/passwd"}, ""},
		{tar.Header{Name: "/etc/passwd"}, ""},
		{tar.Header{Name: "a/../b"}, ""},
		{tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "/usr/lib"}, ""},
		{tar.Header{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../.."}, ""},
		{tar.Header{Name: "../out"}, "leads out"},
		{tar.Header{Name: "a/../../out"}, "leads out"},
		{tar.Header{Name: "/../out"}, "leads out"},
		{tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"}, "leads out"},
		{tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}, ""}, // the image's own
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&c.head); err != nil {
			t.Fatal(err)
		}
		w.Close()
		err := checkTar(&b, 1000)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.head, err)
		}
	}
}

// TestCheckTarSize has an archive that says more than it has.
func TestCheckTarSize(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "hole", Size: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	if err := checkTar(&b, 1<<40); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("a file of a petabyte: %v", err)
	}
}
