package node

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	localdisk "github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestSnapshotsTogether takes two volumes of a running machine and one of nobody: all
// or none of them, and all anew when some are there already.
func TestSnapshotsTogether(t *testing.T) {
	w := newStorageWorld(t)
	ctx := t.Context()
	machine := uuid.NewString()
	dir, err := w.machines.Dir(machine)
	w.must(err)
	var disks []hypervisor.Disk
	var list []nodeapi.VolumeSnapshot
	for i, key := range []string{"", "0123456789abcdef", ""} {
		v := w.volume(1, key)
		w.fill(v.VolumeRef, byte(i+1))
		list = append(list, nodeapi.VolumeSnapshot{Volume: v.VolumeRef, Name: "s" + string(rune('a'+i))})
		if i == 2 {
			continue
		}
		d, err := w.s.Attach(ctx, dir, nodeapi.VolumeSource{VolumeRef: v.VolumeRef}, false)
		w.must(err)
		d.ID, d.Pluggable = v.ID, true
		disks = append(disks, d)
	}
	w.must(w.machines.Start(ctx, hypervisor.Spec{ID: machine, VCPUs: 1, MemoryMiB: 32, Disks: disks}, nil))
	w.Cleanup(func() {
		if err := w.machines.Remove(context.Background(), machine); err != nil {
			w.Error(err)
		}
	})
	names := func(v nodeapi.VolumeRef) []string {
		out, err := w.s.Drivers[localdisk.Name].Snapshots(ctx, v)
		w.must(err)
		return out
	}
	missing := append(slices.Clone(list), nodeapi.VolumeSnapshot{Volume: nodeapi.VolumeRef{ID: uuid.NewString(), Driver: localdisk.Name, Pool: localdisk.Pool}, Name: "none"})
	if err := w.s.EnsureSnapshots(ctx, missing); !errs.Is(err, errs.NotFound) {
		t.Errorf("with a volume that is not there: %v", err)
	}
	for _, x := range list {
		if have := names(x.Volume); len(have) > 0 {
			t.Errorf("a call that failed left %v", have)
		}
	}
	// An earlier run got as far as the volume that nobody has; it changed since.
	w.must(w.s.EnsureSnapshot(ctx, list[2].Volume, list[2].Name))
	w.fill(list[2].Volume, 9)
	for range 2 {
		w.must(w.s.EnsureSnapshots(ctx, list))
	}
	for i, x := range list {
		want := []byte{1, 2, 9}[i]
		if have := names(x.Volume); !slices.Equal(have, []string{x.Name}) || w.content(x.Volume, x.Name) != want {
			t.Errorf("volume %d has the snapshots %v with %d", i, have, w.content(x.Volume, x.Name))
		}
	}
	w.fill(list[2].Volume, 7)
	w.must(w.s.EnsureSnapshots(ctx, list)) // all are there: nothing is taken anew
	if got := w.content(list[2].Volume, list[2].Name); got != 9 {
		t.Errorf("a repeated call took a snapshot with %d", got)
	}
}
