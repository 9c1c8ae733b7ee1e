package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// TestFullDisk keeps a cloud on a small disk and fills it.
func TestFullDisk(t *testing.T) {
	w := newWorldOn(t, 2600) // room for a root disk of one GiB, on paper
	filler := filepath.Join(w.c.Dir, "filler")
	fill(t, filler, free(t, w.c.Dir)-600<<20)
	queued := w.emptyImage(t, "raw")
	w.unchanged(t, func() {
		a := w.upload(t, queued, bytes.Repeat([]byte("0123456789abcdef"), int(free(t, w.c.Dir)+8<<20)/16))
		if said := a.said(t, "image"); a.status != 413 && a.status != 503 || !strings.Contains(said, "full") {
			t.Errorf("an upload larger than the disk: %d %s", a.status, said)
		}
	})
	if a := ask(t, w.user.image, "GET", "images/"+queued, ""); !bytes.Contains(a.body, []byte(`"status":"queued"`)) {
		t.Errorf("afterwards the image is %s", a.body)
	}
	early := w.boot(t, server(""))
	w.user.awaitServer(t, early, "ACTIVE")
	fill(t, filler, free(t, w.c.Dir)-100<<20)
	await(t, "the full disk to be noticed", func() bool {
		return ask(t, w.user.network, "POST", "networks", `{"network":{"name":"n"}}`).status == 503
	})
	w.refused(t, w.user, []bad{
		{"server", "compute", "POST", "servers", server(""), 503, "is full"},
		{"port", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK"}}`, 503, "is full"},
		{"image", "image", "POST", "images", `{"name":"i"}`, 503, "is full"},
	})
	w.remove(t, early) // deleting always works
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	await(t, "the cloud to recover", func() bool {
		return ask(t, w.user.network, "POST", "networks", `{"network":{"name":"n"}}`).status == 201
	})
	late := w.boot(t, server(""))
	w.user.awaitServer(t, late, "ACTIVE")
	w.remove(t, late)
}

// fill makes the file larger by so many bytes.
func fill(t *testing.T, file string, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old, err := f.Stat()
	if err == nil {
		err = syscall.Fallocate(int(f.Fd()), 0, old.Size(), bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// newWorldOn is newWorld on a disk of so many MiB.
func newWorldOn(t *testing.T, size int) *world {
	t.Helper()
	c := cloud.Plan(t)
	onDisk(t, c, size)
	c.Up()
	return populate(t, c)
}

// onDisk gives a cloud that has not begun a disk of so many MiB.
func onDisk(t *testing.T, c *cloud.Cloud, size int) {
	t.Helper()
	disk := filepath.Dir(c.Dir)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=711", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Reset()
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("%v; unmounting it lazily: %v", err, syscall.Unmount(disk, syscall.MNT_DETACH))
		}
	})
}

// free is the room on the disk of a directory, in bytes.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}
