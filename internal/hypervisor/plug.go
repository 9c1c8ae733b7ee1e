package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
)

// unplugAgain is how often a guest is asked to let a device go: one that is
// still booting does not hear it.
const unplugAgain = 3 * time.Second

// PlugDisk implements Driver. The disk is in state.json before QEMU has it, and
// until QEMU has it no more: trim finds out what a crash in between left.
func (d *QEMU) PlugDisk(ctx context.Context, id string, disk Disk) error {
	if err := disk.validate(); err != nil {
		return err
	}
	return d.locked(ctx, id, "plugging a disk into", func(m *machine) error {
		st, err := m.trimmed(ctx)
		if err != nil {
			return err
		}
		if st.Spec.disk(disk.Name()) != nil {
			return nil
		}
		if err := m.own(&Spec{Disks: []Disk{disk}}); err != nil {
			return err
		}
		bus, err := m.place(ctx, &st.Spec, &disk)
		if err != nil {
			return err
		}
		st.Spec.Disks = append(st.Spec.Disks, disk)
		if err := m.writeState(st); err != nil {
			return err
		}
		if err := m.addDisk(ctx, &disk, bus); err != nil {
			_, trim := m.trimmed(context.WithoutCancel(ctx))
			return errors.Join(err, trim)
		}
		return nil
	})
}

// place chooses where on the running machine the disk goes.
func (m *machine) place(ctx context.Context, s *Spec, d *Disk) (map[string]any, error) {
	d.Port = 0
	switch {
	case d.Bus == "scsi":
		if s.SCSIPort == 0 {
			if s.SCSIPort = s.freePort(); s.SCSIPort == 0 {
				return nil, errNoPort(s.ID)
			}
			if err := m.command(ctx, "device_add", s.scsiController(), nil); err != nil {
				return nil, err
			}
		}
		return map[string]any{"bus": scsiBus + ".0"}, nil
	case !d.onVirtio():
		return nil, errs.Invalidf("a disk on the bus %s cannot be plugged into a running machine", d.Bus)
	}
	if d.Port = s.freePort(); d.Port == 0 {
		return nil, errNoPort(s.ID)
	}
	return s.port(d.Port), nil
}

func errNoPort(id string) error {
	return errs.Conflictf("machine %s has no free port for another device until its next start", id)
}

// addDisk makes QEMU's side of a disk.
func (m *machine) addDisk(ctx context.Context, d *Disk, bus map[string]any) error {
	remove, err := m.writeSecrets(*d)
	if err != nil {
		return err
	}
	defer remove()
	for _, o := range d.objects() {
		if err := m.command(ctx, "object-add", o.byFile(), nil); err != nil {
			return err
		}
	}
	for _, n := range d.nodes() {
		if err := m.command(ctx, "blockdev-add", n, nil); err != nil {
			return err
		}
	}
	if err := m.command(ctx, "device_add", d.deviceProps(bus), nil); err != nil {
		return err
	}
	return m.limit(ctx, d)
}

// UnplugDisk implements Driver.
func (d *QEMU) UnplugDisk(ctx context.Context, id, diskID string) error {
	return d.locked(ctx, id, "unplugging a disk from", func(m *machine) error {
		st, err := m.trimmed(ctx)
		if err != nil {
			return err
		}
		disk := st.Spec.disk(diskID)
		if disk == nil {
			return nil
		}
		if disk.Port == 0 && disk.Bus != "scsi" {
			return errs.Conflictf("disk %s can be unplugged only while the machine is stopped", diskID)
		}
		if err := m.unplug(ctx, disk.device()); err != nil {
			return err
		}
		_, err = m.trimmed(ctx)
		return err
	})
}

// PlugNIC implements Driver.
func (d *QEMU) PlugNIC(ctx context.Context, id string, n NIC, tap *os.File) error {
	if err := n.validate(); err != nil {
		return err
	}
	return d.locked(ctx, id, "plugging a network card into", func(m *machine) error {
		st, err := m.trimmed(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(st.Spec.NICs, func(x NIC) bool { return x.ID == n.ID }) {
			return nil
		}
		if !st.Spec.onPort(n.Model) {
			return errs.Invalidf("a network card of model %s cannot be plugged into a running machine", n.Model)
		}
		if n.Port = st.Spec.freePort(); n.Port == 0 {
			return errNoPort(id)
		}
		st.Spec.NICs = append(st.Spec.NICs, n)
		if err := m.writeState(st); err != nil {
			return err
		}
		err = m.commandFD(ctx, "getfd", map[string]string{"fdname": n.netdev()}, nil, tap)
		if err == nil {
			err = m.command(ctx, "netdev_add", map[string]string{"type": "tap", "id": n.netdev(), "fd": n.netdev()}, nil)
		}
		if err == nil {
			err = m.command(ctx, "device_add", n.deviceProps(st.Spec.port(n.Port)), nil)
		}
		if err != nil {
			_, trim := m.trimmed(context.WithoutCancel(ctx))
			return errors.Join(err, trim)
		}
		return nil
	})
}

// UnplugNIC implements Driver.
func (d *QEMU) UnplugNIC(ctx context.Context, id, nicID string) error {
	return d.locked(ctx, id, "unplugging a network card from", func(m *machine) error {
		st, err := m.trimmed(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(st.Spec.NICs, func(x NIC) bool { return x.ID == nicID })
		if i < 0 {
			return nil
		}
		if st.Spec.NICs[i].Port == 0 {
			return errs.Conflictf("network card %s can be unplugged only while the machine is stopped", nicID)
		}
		if err := m.unplug(ctx, st.Spec.NICs[i].device()); err != nil {
			return err
		}
		_, err = m.trimmed(ctx)
		return err
	})
}

// unplug asks the guest for the device until it is gone.
func (m *machine) unplug(ctx context.Context, device string) error {
	events, done := m.listen()
	defer done()
	again := time.NewTicker(unplugAgain)
	defer again.Stop()
	for {
		// An earlier request may be pending, which QEMU says as an error like any other.
		var refused *qmpError
		err := m.command(ctx, "device_del", map[string]string{"id": device}, nil)
		switch {
		case errors.As(err, &refused) && refused.Class == "DeviceNotFound":
			return nil
		case err != nil && refused == nil:
			return err
		}
		if gone, err := m.awaitDeleted(ctx, events, again.C, device); gone || err != nil {
			return err
		}
	}
}

// awaitDeleted waits until the device is gone or it is time to ask again.
func (m *machine) awaitDeleted(ctx context.Context, events <-chan qmpEvent, again <-chan time.Time, device string) (bool, error) {
	m.mu.Lock()
	exited := m.exited
	m.mu.Unlock()
	for {
		select {
		case e := <-events:
			var data struct{ Device string }
			if e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &data) == nil && data.Device == device {
				return true, nil
			}
		case <-exited:
			return true, nil
		case <-again:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("the guest does not let device %s go: %w", device, context.Cause(ctx))
		}
	}
}

func (s *Spec) disk(id string) *Disk {
	for i := range s.Disks {
		if s.Disks[i].Name() == id {
			return &s.Disks[i]
		}
	}
	return nil
}

// trimmed makes state.json and QEMU agree again: what the one has listed and
// the other has no device for is taken back whole. It gives the state after.
func (m *machine) trimmed(ctx context.Context) (machineState, error) {
	if !m.running() {
		return machineState{}, errNotRunning(m.id)
	}
	st, err := m.readState()
	if err != nil {
		return st, err
	}
	var list []struct{ Name string }
	if err := m.command(ctx, "qom-list", map[string]string{"path": "/machine/peripheral"}, &list); err != nil {
		return st, err
	}
	there := map[string]bool{}
	for _, l := range list {
		there[l.Name] = true
	}
	var gone []Disk
	var goneNICs []NIC
	st.Spec.Disks = slices.DeleteFunc(st.Spec.Disks, func(d Disk) bool {
		if !there[d.device()] {
			gone = append(gone, d)
		}
		return !there[d.device()]
	})
	st.Spec.NICs = slices.DeleteFunc(st.Spec.NICs, func(n NIC) bool {
		if !there[n.device()] {
			goneNICs = append(goneNICs, n)
		}
		return !there[n.device()]
	})
	if there[scsiBus] == (st.Spec.SCSIPort > 0) && len(gone)+len(goneNICs) == 0 {
		return st, nil
	}
	if !there[scsiBus] {
		st.Spec.SCSIPort = 0
	}
	return st, m.takeBack(ctx, st, gone, goneNICs)
}

// takeBack removes what is left of devices that are gone, and then writes the
// state without them.
func (m *machine) takeBack(ctx context.Context, st machineState, disks []Disk, nics []NIC) error {
	for i := range disks {
		if err := m.dropNodes(ctx, &disks[i]); err != nil {
			return err
		}
	}
	for _, n := range nics {
		// Fails when it was never made.
		_ = m.command(ctx, "netdev_del", map[string]string{"id": n.netdev()}, nil)
		_ = m.command(ctx, "closefd", map[string]string{"fdname": n.netdev()}, nil)
	}
	return m.writeState(st)
}

// dropNodes removes the disk's block nodes and objects, as far as they are there.
func (m *machine) dropNodes(ctx context.Context, d *Disk) error {
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := m.command(ctx, "query-named-block-nodes", map[string]bool{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, name := range []string{d.node(), d.protocol()} {
		for _, n := range nodes {
			if n.Name != name {
				continue
			}
			if err := m.command(ctx, "blockdev-del", map[string]string{"node-name": name}, nil); err != nil {
				return err
			}
		}
	}
	for _, o := range d.objects() {
		_ = m.command(ctx, "object-del", map[string]string{"id": o.id}, nil) // fails when it was never made
	}
	return nil
}
