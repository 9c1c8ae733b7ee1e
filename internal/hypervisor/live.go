package hypervisor

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// withDisk runs an operation on a disk of a running machine.
func (d *QEMU) withDisk(ctx context.Context, id, diskID, what string, op func(*machine, machineState, *Disk) error) error {
	return d.locked(ctx, id, what, func(m *machine) error {
		if !m.running() {
			return errNotRunning(id)
		}
		st, err := m.readState()
		if err != nil {
			return err
		}
		disk := st.Spec.disk(diskID)
		if disk == nil {
			return errs.NotFoundf("machine %s has no disk %s", id, diskID)
		}
		return op(m, st, disk)
	})
}

// blockInfo is what QEMU tells of a block node.
type blockInfo struct {
	Name  string `json:"node-name"`
	Image struct {
		VirtualSize int64 `json:"virtual-size"`
		Snapshots   []struct {
			Name string `json:"name"`
		} `json:"snapshots"`
	} `json:"image"`
	Cache struct {
		NoFlush bool `json:"no-flush"`
	} `json:"cache"`
}

func (m *machine) blockInfo(ctx context.Context, node string) (blockInfo, error) {
	var all []blockInfo
	if err := m.command(ctx, "query-named-block-nodes", nil, &all); err != nil {
		return blockInfo{}, err
	}
	for _, b := range all {
		if b.Name == node {
			return b, nil
		}
	}
	return blockInfo{}, errs.NotFoundf("machine %s has no block node %s", m.id, node)
}

// ResizeDisk implements Driver.
func (d *QEMU) ResizeDisk(ctx context.Context, id, diskID string, bytes int64) error {
	return d.withDisk(ctx, id, diskID, "resizing a disk of", func(m *machine, _ machineState, disk *Disk) error {
		info, err := m.blockInfo(ctx, disk.node())
		if err != nil || info.Image.VirtualSize >= bytes {
			return err
		}
		nodes := []string{disk.node()}
		if disk.NBD != nil { // which learns its export's new size only when told so
			nodes = []string{disk.protocol(), disk.node()}
			// It connects again only when it has something to do.
			read := map[string]string{"command-line": "qemu-io " + disk.node() + " \"read -q 0 512\""}
			if err := m.command(ctx, "human-monitor-command", read, nil); err != nil {
				return err
			}
		}
		for _, n := range nodes {
			if err := m.command(ctx, "block_resize", map[string]any{"node-name": n, "size": bytes}, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// SnapshotDisk implements Driver.
func (d *QEMU) SnapshotDisk(ctx context.Context, id, diskID, name string) error {
	return d.withDisk(ctx, id, diskID, "taking a snapshot of a disk of", func(m *machine, _ machineState, disk *Disk) error {
		if there, err := m.hasSnapshot(ctx, disk, name); err != nil || there {
			return err
		}
		return m.command(ctx, "blockdev-snapshot-internal-sync", map[string]string{"device": disk.node(), "name": name}, nil)
	})
}

// SnapshotDisks implements Driver: QEMU keeps all disks still until the last snapshot
// of a transaction is taken, and takes none if it cannot take all.
func (d *QEMU) SnapshotDisks(ctx context.Context, id string, names map[string]string) error {
	return d.locked(ctx, id, "taking snapshots of disks of", func(m *machine) error {
		if !m.running() {
			return errNotRunning(id)
		}
		st, err := m.readState()
		if err != nil {
			return err
		}
		var actions []map[string]any
		for _, diskID := range slices.Sorted(maps.Keys(names)) {
			disk := st.Spec.disk(diskID)
			if disk == nil {
				return errs.NotFoundf("machine %s has no disk %s", id, diskID)
			}
			there, err := m.hasSnapshot(ctx, disk, names[diskID])
			if err != nil {
				return err
			}
			if !there {
				actions = append(actions, map[string]any{"type": "blockdev-snapshot-internal-sync", "data": map[string]string{"device": disk.node(), "name": names[diskID]}})
			}
		}
		if len(actions) == 0 {
			return nil
		}
		return m.command(ctx, "transaction", map[string]any{"actions": actions}, nil)
	})
}

// DeleteDiskSnapshot implements Driver.
func (d *QEMU) DeleteDiskSnapshot(ctx context.Context, id, diskID, name string) error {
	return d.withDisk(ctx, id, diskID, "dropping a snapshot of a disk of", func(m *machine, _ machineState, disk *Disk) error {
		if there, err := m.hasSnapshot(ctx, disk, name); err != nil || !there {
			return err
		}
		return m.command(ctx, "blockdev-snapshot-delete-internal-sync", map[string]string{"device": disk.node(), "name": name}, nil)
	})
}

func (m *machine) hasSnapshot(ctx context.Context, d *Disk, name string) (bool, error) {
	info, err := m.blockInfo(ctx, d.node())
	return slices.ContainsFunc(info.Image.Snapshots, func(s struct {
		Name string `json:"name"`
	}) bool {
		return s.Name == name
	}), err
}

// LimitDisk implements Driver.
func (d *QEMU) LimitDisk(ctx context.Context, id, diskID string, limits *nodeapi.IOLimits) error {
	return d.withDisk(ctx, id, diskID, "limiting a disk of", func(m *machine, st machineState, disk *Disk) error {
		if limits == nil {
			limits = &nodeapi.IOLimits{}
		}
		disk.Limits = limits
		if err := m.limit(ctx, disk); err != nil {
			return err
		}
		return m.writeState(st)
	})
}

// limit makes QEMU keep the disk's limits.
func (m *machine) limit(ctx context.Context, d *Disk) error {
	l := d.Limits
	if l == nil {
		return nil
	}
	args := map[string]any{"id": d.backend(),
		"iops": l.TotalIOPS, "iops_rd": l.ReadIOPS, "iops_wr": l.WriteIOPS,
		"bps": l.TotalBytes, "bps_rd": l.ReadBytes, "bps_wr": l.WriteBytes,
	}
	for name, v := range map[string]int64{
		"iops_max": l.TotalIOPSMax, "iops_rd_max": l.ReadIOPSMax, "iops_wr_max": l.WriteIOPSMax,
		"bps_max": l.TotalBytesMax, "bps_rd_max": l.ReadBytesMax, "bps_wr_max": l.WriteBytesMax, "iops_size": l.SizeIOPS,
	} {
		if v > 0 {
			args[name] = v
		}
	}
	return m.command(ctx, "block_set_io_throttle", args, nil)
}

// limitAll applies the limits of all disks to a machine that has just started.
func (m *machine) limitAll(ctx context.Context, s *Spec) error {
	for i := range s.Disks {
		if err := m.limit(ctx, &s.Disks[i]); err != nil {
			return err
		}
	}
	return nil
}
