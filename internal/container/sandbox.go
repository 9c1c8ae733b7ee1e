package container

import (
	"context"
	"errors"
	"net/netip"

	"github.com/strata-cloud/strata/internal/container/bridge"
)

// seat is an address that no container's record has.
type seat struct {
	network string
	addr    netip.Addr
}

// sandbox makes a network namespace on the bridge for a process that is no
// container's: one of a build. It has no record: after a crash nothing of it counts.
func (d *Daemon) sandbox(context.Context) (path string, release func() error, err error) {
	id := newID()
	e, err := d.leaseSandbox(id)
	if err != nil {
		return "", nil, err
	}
	forget := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.sandboxes, id)
	}
	if err = d.syncNetworks(); err == nil {
		err = d.plane.Open(id, nil)
	}
	if err == nil {
		err = d.plane.Connect(id, e)
	}
	if err == nil {
		err = d.plane.Route(id, &e, nil)
	}
	if err != nil {
		err = errors.Join(err, d.plane.Remove(id, e.ID))
		forget()
		return "", nil, err
	}
	release = func() error {
		d.group.Go(func() { // the kernel takes its time, which the next step need not wait for
			if err := d.plane.Remove(id, e.ID); err != nil {
				d.cfg.Log.Error("a build's network is left", "id", id, "err", err)
				return // the address stays taken
			}
			forget()
		})
		return nil
	}
	return d.plane.Path(id), release, nil
}

// leaseSandbox takes an address of the bridge.
func (d *Daemon) leaseSandbox(id string) (bridge.Endpoint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.networkLocked(bridgeNetwork)
	if err != nil {
		return bridge.Endpoint{}, err
	}
	e, err := d.leaseOne(Record{}, place{n: n, e: &Endpoint{Network: n.ID}}, d.usedLocked()[n.ID])
	if err != nil {
		return bridge.Endpoint{}, err
	}
	d.sandboxes[id] = seat{n.ID, e.Addr}
	if n, err = d.networkLocked(bridgeNetwork); err != nil { // it may have got its subnet just now
		return bridge.Endpoint{}, err
	}
	return e.plane(n), nil
}
