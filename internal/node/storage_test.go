package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/export"
	localdisk "github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/vault"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// storageWorld is a node with volumes and a real QEMU.
type storageWorld struct {
	*testing.T
	dir      string
	machines *hypervisor.QEMU
	s        *Storage
}

const storageUID = 64398

func newStorageWorld(t *testing.T) *storageWorld {
	needs.Root(t, "QEMU runs as another user")
	w := &storageWorld{T: t, dir: t.TempDir()}
	var err error
	w.machines, err = hypervisor.New(t.Context(), hypervisor.Config{Dir: filepath.Join(w.dir, "instances"), UID: storageUID, GID: storageUID,
		Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.machines.Close)
	w.restart()
	return w
}

// restart begins as a new agent does.
func (w *storageWorld) restart() {
	w.Helper()
	d, err := localdisk.New(w.Context(), filepath.Join(w.dir, "volumes"), qemu.Tools{UID: storageUID, GID: storageUID})
	w.must(err)
	files, err := vault.NewFiles(filepath.Join(w.dir, "backups"))
	w.must(err)
	log := slog.New(slog.NewTextHandler(w.Output(), nil))
	exports, err := export.New(export.Config{Dir: filepath.Join(w.dir, "exports"), Tools: qemu.Tools{UID: storageUID, GID: storageUID}, Log: log})
	w.must(err)
	w.s, err = NewStorage(w.Context(), StorageOptions{Exports: exports, Drivers: map[string]volumes.Driver{localdisk.Name: d}, Vault: vault.New(files), Machines: w.machines,
		Base: func(ctx context.Context, image string, use func(blockdev.Base) error) error {
			return errs.NotFoundf("there is no image %s", image)
		}, Dir: filepath.Join(w.dir, "attached"), Log: log})
	w.must(err)
}

func (w *storageWorld) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *storageWorld) volume(size int, key string) nodeapi.Volume {
	w.Helper()
	v := nodeapi.Volume{VolumeRef: nodeapi.VolumeRef{ID: uuid.NewString(), Driver: localdisk.Name, Pool: localdisk.Pool}, SizeGiB: size}
	if key != "" {
		v.Key = []byte(key)
	}
	w.must(w.s.EnsureVolume(w.Context(), v))
	return v
}

// device opens a volume that nobody uses.
func (w *storageWorld) fill(v nodeapi.VolumeRef, pattern byte) {
	w.Helper()
	d, err := w.s.Drivers[localdisk.Name].Open(w.Context(), v, "")
	w.must(err)
	_, err = d.WriteAt(bytes.Repeat([]byte{pattern}, 1<<20), 5<<20)
	w.must(errors.Join(err, d.Flush(), d.Close()))
}

// content reads the first byte that fill writes.
func (w *storageWorld) content(v nodeapi.VolumeRef, snapshot string) byte {
	w.Helper()
	r, err := w.s.ReadVolume(w.Context(), v, snapshot, "raw")
	w.must(err)
	defer r.Close()
	_, err = io.CopyN(io.Discard, r, 5<<20)
	w.must(err)
	b := make([]byte, 1)
	_, err = io.ReadFull(r, b)
	w.must(err)
	return b[0]
}

// start runs a machine that has the volume and does nothing.
func (w *storageWorld) start(v nodeapi.VolumeSource) (machine, dir string) {
	w.Helper()
	machine = uuid.NewString()
	dir, err := w.machines.Dir(machine)
	w.must(err)
	disk, err := w.s.Attach(w.Context(), dir, v, false)
	w.must(err)
	disk.ID, disk.Pluggable = v.ID, true
	w.must(w.machines.Start(w.Context(), hypervisor.Spec{ID: machine, VCPUs: 1, MemoryMiB: 32, Disks: []hypervisor.Disk{disk}}, nil))
	w.Cleanup(func() {
		if err := w.machines.Remove(context.Background(), machine); err != nil {
			w.Error(err)
		}
	})
	return machine, dir
}

func TestVolumesUnderARunningMachine(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": "0123456789abcdef"} {
		t.Run(name, func(t *testing.T) {
			w := newStorageWorld(t)
			ctx := t.Context()
			v := w.volume(1, key)
			w.fill(v.VolumeRef, 1)
			machine, dir := w.start(nodeapi.VolumeSource{VolumeRef: v.VolumeRef})
			for range 2 {
				w.must(w.s.EnsureSnapshot(ctx, v.VolumeRef, "s"))
				w.must(w.s.ExtendVolume(ctx, v.VolumeRef, 2))
			}
			clone := nodeapi.Volume{VolumeRef: nodeapi.VolumeRef{ID: uuid.NewString(), Driver: localdisk.Name, Key: v.Key}, SizeGiB: 3,
				Source: nodeapi.VolumeOrigin{Volume: &v.VolumeRef}}
			for range 2 {
				w.must(w.s.EnsureVolume(ctx, clone))
			}
			if got := w.content(clone.VolumeRef, ""); got != 1 {
				t.Errorf("the clone has %d", got)
			}
			res, err := w.s.MakeBackup(ctx, nodeapi.Backup{ID: "b", Volume: v.VolumeRef})
			if err != nil || res.Objects != 1 {
				t.Errorf("backup: %+v, %v", res, err)
			}
			for what, err := range map[string]error{"delete": w.s.DeleteVolume(ctx, v.VolumeRef), "revert": w.s.RevertVolume(ctx, v.VolumeRef, "s"),
				"restore": w.s.Restore(ctx, "b", v.Key, v.VolumeRef)} {
				if !errs.Is(err, errs.Conflict) {
					t.Errorf("%s while in use: %v", what, err)
				}
			}
			other, err := w.machines.Dir(uuid.NewString())
			w.must(err)
			if _, err := w.s.Attach(ctx, other, nodeapi.VolumeSource{VolumeRef: v.VolumeRef}, false); !errs.Is(err, errs.Conflict) {
				t.Errorf("attached twice: %v", err)
			}
			names, err := w.s.Drivers[localdisk.Name].Snapshots(ctx, v.VolumeRef)
			if err != nil || len(names) != 1 {
				t.Errorf("snapshots %v, %v", names, err)
			}
			w.must(w.machines.Stop(ctx, machine, 0))
			w.fill(v.VolumeRef, 2)
			w.must(w.s.Detach(ctx, dir, nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: v.ID, Driver: v.Driver}}))
			w.must(w.s.Restore(ctx, "b", v.Key, v.VolumeRef))
			if got := w.content(v.VolumeRef, ""); got != 1 {
				t.Errorf("restored: %d", got)
			}
			w.must(w.s.RevertVolume(ctx, v.VolumeRef, "s"))
			if got := w.content(v.VolumeRef, "s"); got != 1 {
				t.Errorf("reverted: %d", got)
			}
			w.must(w.s.DeleteSnapshot(ctx, v.VolumeRef, "s"))
			for range 2 {
				w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
				w.must(w.s.DeleteBackup(ctx, "b"))
			}
			pools, err := w.s.Pools(ctx)
			if err != nil || len(pools) != 1 || pools[0].Provisioned != 3 {
				t.Errorf("pools %+v, %v", pools, err)
			}
		})
	}
}

// TestViewsOfACrashAreSwept leaves a frozen view behind as a crash does.
func TestViewsOfACrashAreSwept(t *testing.T) {
	w := newStorageWorld(t)
	v := w.volume(1, "")
	if _, _, err := w.s.freeze(t.Context(), v.VolumeRef, "", "copy"); err != nil {
		t.Fatal(err)
	}
	if err := w.s.DeleteVolume(t.Context(), v.VolumeRef); !errs.Is(err, errs.Conflict) {
		t.Errorf("removed while it is read: %v", err)
	}
	w.restart()
	w.must(w.s.EnsureSnapshot(t.Context(), v.VolumeRef, "s"))
	names, err := w.s.Drivers[localdisk.Name].Snapshots(t.Context(), v.VolumeRef)
	if err != nil || strings.Join(names, " ") != "s" {
		t.Errorf("snapshots %v, %v", names, err)
	}
}

// TestMachinesThatAreGoneHoldNothing removes a machine without a detach.
func TestMachinesThatAreGoneHoldNothing(t *testing.T) {
	w := newStorageWorld(t)
	v := w.volume(1, "")
	machine, _ := w.start(nodeapi.VolumeSource{VolumeRef: v.VolumeRef})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.must(w.machines.Remove(ctx, machine))
	w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
	left, err := os.ReadDir(filepath.Join(w.dir, "attached"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSharedVolumes(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": "0123456789abcdef"} {
		t.Run(name, func(t *testing.T) {
			w := newStorageWorld(t)
			ctx := t.Context()
			v := w.volume(1, key)
			w.fill(v.VolumeRef, 1)
			shared := nodeapi.VolumeSource{VolumeRef: v.VolumeRef, Shared: true}
			one, dirOne := w.start(shared)
			two, dirTwo := w.start(shared)
			w.must(w.s.EnsureSnapshot(ctx, v.VolumeRef, "s"))
			for range 2 {
				w.must(w.s.ExtendVolume(ctx, v.VolumeRef, 2))
			}
			if got := w.content(v.VolumeRef, ""); got != 1 {
				t.Errorf("the shared volume has %d", got)
			}
			daemon := w.s.Exports.PIDs(v.ID)
			w.restart()
			if again := w.s.Exports.PIDs(v.ID); len(daemon) != 1 || !slices.Equal(daemon, again) {
				t.Errorf("daemons %v, after a restart %v", daemon, again)
			}
			w.must(w.s.ExtendVolume(ctx, v.VolumeRef, 3))
			for machine, dir := range map[string]string{one: dirOne, two: dirTwo} {
				if err := w.s.DeleteVolume(ctx, v.VolumeRef); !errs.Is(err, errs.Conflict) {
					t.Errorf("removed while it is used: %v", err)
				}
				w.must(w.machines.Stop(ctx, machine, 0))
				w.must(w.s.Detach(ctx, dir, nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: v.ID, Driver: v.Driver}}))
			}
			if left := w.s.Exports.PIDs(v.ID); len(left) > 0 {
				t.Errorf("daemons %v are left", left)
			}
			w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
		})
	}
}

// A volume moves to a pool on another filesystem, changes its key in its place, is given away and
// taken in again; not while a machine has it.
func TestMoveAndManage(t *testing.T) {
	w := newStorageWorld(t)
	ctx := t.Context()
	fast, err := os.MkdirTemp("/dev/shm", "strata-test-pool-")
	w.must(err)
	t.Cleanup(func() { os.RemoveAll(fast) })
	w.must(os.Chmod(fast, 0o711))
	d, err := localdisk.WithPools(ctx, map[string]string{localdisk.Pool: filepath.Join(w.dir, "volumes"), "fast": fast}, qemu.Tools{UID: storageUID, GID: storageUID})
	w.must(err)
	w.s.Drivers[localdisk.Name] = d
	v := w.volume(1, "")
	w.fill(v.VolumeRef, 4)
	there, sealed := v.VolumeRef, v.VolumeRef
	there.Pool = "fast"
	sealed.Pool, sealed.Key = "fast", []byte("secret")
	for _, turn := range []struct{ from, to nodeapi.VolumeRef }{{v.VolumeRef, there}, {there, sealed}, {sealed, there}} {
		for range 2 {
			w.must(w.s.MoveVolume(ctx, turn.from, turn.to))
		}
		if c := w.content(turn.to, ""); c != 4 {
			t.Errorf("it has %d", c)
		}
	}
	if c := w.content(v.VolumeRef, ""); c != 4 {
		t.Errorf("where it was it has %d", c)
	}
	w.must(w.s.DeleteVolume(ctx, v.VolumeRef))
	w.must(w.s.EnsureSnapshot(ctx, there, "kept"))
	if list, err := w.s.ForeignSnapshots(ctx, there); err != nil || len(list) != 1 || list[0].Name != "kept" || list[0].Bytes != 1<<30 {
		t.Errorf("snapshots %+v, %v", list, err)
	}
	machine, dir := w.start(nodeapi.VolumeSource{VolumeRef: there})
	for what, err := range map[string]error{"moved": w.s.MoveVolume(ctx, there, v.VolumeRef), "released": w.s.ReleaseVolume(ctx, there, "volume-x")} {
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("%s while a machine has it: %v", what, err)
		}
	}
	w.must(w.machines.Remove(ctx, machine))
	w.must(w.s.Detach(ctx, dir, nodeapi.VolumeSource{VolumeRef: there}))
	w.must(w.s.ReleaseVolume(ctx, there, "volume-x"))
	if list, err := w.s.ForeignVolumes(ctx, localdisk.Name, "fast"); err != nil || len(list) != 1 || list[0].Name != "volume-x" || list[0].Unfit != "" {
		t.Errorf("foreign: %+v, %v", list, err)
	}
	again := nodeapi.VolumeRef{ID: uuid.NewString(), Driver: localdisk.Name, Pool: "fast"}
	w.must(w.s.AdoptVolume(ctx, again, "volume-x"))
	if c := w.content(again, "kept"); c != 4 {
		t.Errorf("its snapshot has %d", c)
	}
}
