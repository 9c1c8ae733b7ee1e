// Package guesttest gives tests guests that are built once and kept in
// $STRATA_TEST_CACHE or the user's cache directory.
package guesttest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/netns"
)

// Image is a guest's files.
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
	return built(t, guest.Options{Kind: guest.KindTiny}, guest.Revision())
}

// Worker is Tiny for the guest that works for clusters, with the programs in a directory.
func Worker(t testing.TB, programs string) Image {
	t.Helper()
	revision, err := guest.WorkerRevision(programs)
	if err != nil {
		t.Fatal(err)
	}
	return built(t, guest.Options{Kind: guest.KindKubeWorker, Programs: programs}, revision)
}

// Offer has the cloud with the data directory find the guest made: strata image build
// has nothing to do but upload it.
func (i Image) Offer(t testing.TB, dataDir string) {
	t.Helper()
	dir := filepath.Join(dataDir, "guest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{i.Disk, i.Kernel, i.Initrd} {
		if err := os.Symlink(path, filepath.Join(dir, filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
}

func built(t testing.TB, o guest.Options, revision string) Image {
	t.Helper()
	dir := Cache(t)
	o.Output = filepath.Join(dir, o.Kind+"-"+revision+".qcow2") // as strata image build has it
	img := Image{Disk: o.Output, Kernel: guest.KernelPath(o.Output), Initrd: guest.InitrdPath(o.Output)}
	lock, err := os.OpenFile(filepath.Join(dir, "guest.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(img.Disk); err == nil {
		return img
	}
	old, _ := filepath.Glob(filepath.Join(dir, o.Kind+"-*"))
	for _, f := range old {
		os.Remove(f)
	}
	o.WorkDir, o.Progress = filepath.Join(dir, "guest"), func(s string) { t.Log(s) }
	if err := WhereOnline(func() error { return guest.Build(context.WithoutCancel(t.Context()), o) }); err != nil {
		t.Fatalf("building the guest %s: %v", o.Kind, err)
	}
	return img
}

// WhereOnline runs f where packages can be had: the test may have left that network
// (test/apart, which tells its name). Programs that f starts are there as well.
func WhereOnline(f func() error) error {
	outside := os.Getenv("OUTSIDE")
	if outside == "" {
		return f()
	}
	ns, err := netns.Open(outside)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(f)
}
