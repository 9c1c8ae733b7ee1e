package container

import (
	"context"
	"errors"
	"net/netip"

	"github.com/strata-cloud/strata/internal/container/bridge"
)

// sandbox makes a network namespace on the bridge for a process that is no
// container's: one of a build. It has no record: after a crash nothing of it counts.
func (d *Daemon) sandbox(context.Context) (path string, release func() error, err error) {
	id := newID()
	n, addr, err := d.leaseSandbox(id)
	if err != nil {
		return "", nil, err
	}
	forget := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.sandboxes, id)
	}
	if err := d.syncNetworks(); err != nil {
		forget()
		return "", nil, err
	}
	path, err = d.plane.Plug(id, bridge.Endpoint{Network: n.plane(), Addr: addr, MAC: bridge.MAC(addr)})
	if err != nil {
		forget()
		return "", nil, errors.Join(err, d.plane.Unplug(id))
	}
	release = func() error {
		d.group.Go(func() { // the kernel takes its time, which the next step need not wait for
			if err := d.plane.Unplug(id); err != nil {
				d.cfg.Log.Error("a build's network is left", "id", id, "err", err)
				return // the address stays taken
			}
			forget()
		})
		return nil
	}
	return path, release, nil
}

// leaseSandbox takes an address of the bridge.
func (d *Daemon) leaseSandbox(id string) (*Network, netip.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.networkLocked(bridgeNetwork)
	if err != nil {
		return nil, netip.Addr{}, err
	}
	if n, err = d.subnetLocked(n); err != nil {
		return nil, netip.Addr{}, err
	}
	addr, err := n.address(&Endpoint{}, d.usedLocked(n, nil))
	if err == nil {
		d.sandboxes[id] = addr
	}
	return n, addr, err
}

// subnetLocked chooses a network's subnet when it is needed for the first time.
func (d *Daemon) subnetLocked(n *Network) (*Network, error) {
	if n.Subnet.IsValid() {
		return n, nil
	}
	subnet, err := d.free(netip.Prefix{})
	if err != nil {
		return nil, err
	}
	with := *n
	with.Subnet, with.Gateway = subnet, subnet.Addr().Next()
	if err := d.networks.put(n.ID, &with); err != nil {
		return nil, err
	}
	d.nets[n.ID] = &with
	return &with, nil
}

// usedLocked are the addresses of a network that others than a container have.
func (d *Daemon) usedLocked(n *Network, but *live) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, addr := range d.sandboxes {
		used[addr] = true
	}
	for _, o := range d.byID {
		if o == but {
			continue
		}
		for _, e := range o.record().Endpoints {
			if e.Network == n.ID && e.Addr.IsValid() {
				used[e.Addr] = true
			}
		}
	}
	return used
}
