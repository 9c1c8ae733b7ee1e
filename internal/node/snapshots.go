package node

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// taking is one of several snapshots that belong together.
type taking struct {
	nodeapi.VolumeSnapshot
	driver volumes.Driver
	user   volumes.User
	there  bool
}

// EnsureSnapshots implements nodes.Storage. The volumes are locked in the order of
// their ids, so that two calls cannot wait for each other.
func (s *Storage) EnsureSnapshots(ctx context.Context, list []nodeapi.VolumeSnapshot) error {
	list = slices.SortedFunc(slices.Values(list), func(a, b nodeapi.VolumeSnapshot) int { return strings.Compare(a.Volume.ID, b.Volume.ID) })
	all := true
	var takings []taking
	for _, x := range list {
		defer s.busy.Lock(x.Volume.ID)()
		t, err := s.taking(ctx, x)
		if err != nil {
			return err
		}
		takings, all = append(takings, t), all && t.there
	}
	if all {
		return nil
	}
	for _, t := range takings { // what an earlier run took is of another moment
		if !t.there {
			continue
		}
		if s.viewed(t.Volume, t.Name) {
			return errs.Conflictf("snapshot %s is being copied", t.Name)
		}
		if err := t.driver.DeleteSnapshot(ctx, t.Volume, t.Name, t.user); err != nil {
			return err
		}
	}
	if err := s.takeTogether(ctx, takings); err != nil {
		return errors.Join(err, dropTaken(ctx, takings))
	}
	return nil
}

// taking looks at a volume that is locked.
func (s *Storage) taking(ctx context.Context, x nodeapi.VolumeSnapshot) (taking, error) {
	d, err := s.driver(x.Volume)
	if err != nil {
		return taking{}, err
	}
	u, err := s.user(x.Volume)
	if err != nil {
		return taking{}, err
	}
	if err := s.sweep(ctx, d, x.Volume, u); err != nil {
		return taking{}, err
	}
	names, err := d.Snapshots(ctx, x.Volume)
	return taking{x, d, u, slices.Contains(names, x.Name)}, err
}

// takeTogether takes what a machine has to itself as qcow2 files at one moment, each
// machine's disks in turn, and then all that is left.
func (s *Storage) takeTogether(ctx context.Context, takings []taking) error {
	machines := map[string]map[string]string{}
	for _, t := range takings {
		m, ok := t.user.(machineDisk)
		if !ok {
			continue
		}
		spec, err := s.Machines.Spec(m.machine)
		if err != nil {
			return err
		}
		for _, d := range spec.Disks {
			if d.Name() != m.disk || d.Format != "qcow2" || d.RBD != nil || d.NBD != nil {
				continue
			}
			if machines[m.machine] == nil {
				machines[m.machine] = map[string]string{}
			}
			machines[m.machine][m.disk] = t.Name
		}
	}
	for m, names := range machines {
		if err := s.Machines.SnapshotDisks(ctx, m, names); err != nil {
			return err
		}
	}
	for _, t := range takings { // one that is there is made safe on the disk
		if err := t.driver.Snapshot(ctx, t.Volume, t.Name, t.user); err != nil {
			return err
		}
	}
	return nil
}

func dropTaken(ctx context.Context, takings []taking) (err error) {
	for _, t := range takings {
		err = errors.Join(err, t.driver.DeleteSnapshot(context.WithoutCancel(ctx), t.Volume, t.Name, t.user))
	}
	return err
}
