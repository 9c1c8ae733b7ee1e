package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/needs"
)

// layers makes the files of a container with so many layers, as containerd's snapshotter
// keeps them, and says how to mount them.
func layers(t *testing.T, n int) (m mount.Mount, top string) {
	t.Helper()
	top = t.TempDir()
	dir := filepath.Join(top, "io.containerd.snapshotter.v1.overlayfs", "snapshots")
	var lower []string
	for i := range n {
		layer := filepath.Join(dir, fmt.Sprint(i), "fs")
		check(t, os.MkdirAll(layer, 0o755))
		check(t, os.WriteFile(filepath.Join(layer, fmt.Sprintf("of-%d", i)), []byte("x"), 0o644))
		check(t, os.WriteFile(filepath.Join(layer, "last"), fmt.Append(nil, i), 0o644))
		lower = append(lower, layer)
	}
	slices.Reverse(lower)
	up, work := filepath.Join(dir, "own", "fs"), filepath.Join(dir, "own", "work")
	check(t, errors.Join(os.MkdirAll(up, 0o755), os.MkdirAll(work, 0o755), os.Mkdir(filepath.Join(top, "at"), 0o755)))
	return mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"index=off", "workdir=" + work, "upperdir=" + up, "lowerdir=" + strings.Join(lower, ":")}}, top
}

// TestManyLayers has no one else see the files of a container with so many layers that the
// options of their mount are longer than a page.
func TestManyLayers(t *testing.T) {
	needs.Root(t, "this test")
	for _, c := range []struct {
		name  string
		n     int
		ids   bool
		owner uint32
	}{{"one", 1, false, 0}, {"few", 3, false, 0}, {"many", 120, false, 0}, {"one shifted", 1, true, 100000}, {"few shifted", 3, true, 100000}, {"many shifted", 120, true, 100000}} {
		t.Run(c.name, func(t *testing.T) {
			m, top := layers(t, c.n)
			at := filepath.Join(top, "at")
			t.Cleanup(func() { mount.UnmountAll(at, unix.MNT_DETACH) })
			if c.ids {
				m.Options = append(m.Options, shifting().Shifted()...)
			}
			given := slices.Clone(m.Options)
			r, err := Mount(at, func(dir string) error { return MountAll([]mount.Mount{m}, dir) })
			check(t, err)
			defer r.Close()
			if list, err := os.ReadDir(at); err != nil || len(list) > 0 {
				t.Errorf("the mount is seen outside: %d entries, %v", len(list), err)
			}
			for name, want := range map[string]string{"of-0": "x", "last": fmt.Sprint(c.n - 1)} {
				if f, err := r.open(name, unix.O_RDONLY); err != nil {
					t.Error(err)
				} else {
					b := make([]byte, 8)
					n, _ := f.Read(b)
					var st syscall.Stat_t
					check(t, errors.Join(syscall.Fstat(int(f.Fd()), &st), f.Close()))
					if string(b[:n]) != want || st.Uid != c.owner {
						t.Errorf("%s is %q of %d, want %q of %d", name, b[:n], st.Uid, want, c.owner)
					}
				}
			}
			check(t, r.Unpack(archive(t, entry{tar.TypeReg, "new", "n"}), "/", UnpackOptions{}))
			if _, err := os.Stat(filepath.Join(top, "io.containerd.snapshotter.v1.overlayfs/snapshots/own/fs/new")); err != nil {
				t.Error("what was written:", err)
			}
			if !slices.Equal(given, m.Options) {
				t.Error("the options of who asked have changed")
			}
		})
	}
}
