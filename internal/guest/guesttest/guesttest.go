// Package guesttest gives tests the tiny guest, built once and kept in
// $STRATA_TEST_CACHE or the user's cache directory.
package guesttest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/guest"
)

// Image is the tiny guest's files.
type Image struct {
	Disk, Kernel, Initrd string
}

// Cache is the directory that test caches live in.
func Cache(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("STRATA_TEST_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = "/var/cache"
		}
		dir = filepath.Join(base, "strata")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Tiny returns the tiny guest, building it when this recipe's is not there.
// Tests must not write to its files.
func Tiny(t testing.TB) Image {
	t.Helper()
	dir := Cache(t)
	disk := filepath.Join(dir, "tiny-"+guest.Revision()+".qcow2")
	img := Image{Disk: disk, Kernel: guest.KernelPath(disk), Initrd: guest.InitrdPath(disk)}
	build(t, dir, img)
	return img
}

func build(t testing.TB, dir string, img Image) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(dir, "tiny.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(img.Disk); err == nil {
		return
	}
	old, _ := filepath.Glob(filepath.Join(dir, "tiny-*"))
	for _, f := range old {
		os.Remove(f)
	}
	opts := guest.Options{Output: img.Disk, WorkDir: filepath.Join(dir, "guest"), Progress: func(s string) { t.Log(s) }}
	if err := guest.Build(context.WithoutCancel(t.Context()), opts); err != nil {
		t.Fatalf("building the tiny guest: %v", err)
	}
}
