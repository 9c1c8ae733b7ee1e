package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/ifname"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Tap gives an open descriptor of a local port's tap device (IFF_VNET_HDR and
// IFF_NO_PI) for a VMM. It waits until Apply has learned the port and its rules
// are in place, makes the device and plugs it into its network. The device
// stays when the descriptor is closed. It is a Conflict while another process
// has it open.
func (p *Plane) Tap(ctx context.Context, portID string) (*os.File, error) {
	for {
		port, ok, changed := p.lookup(portID)
		if ok {
			return p.tap(ctx, port)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the network to know port %s: %w", portID, context.Cause(ctx))
		}
	}
}

func (p *Plane) lookup(portID string) (nodeapi.Port, bool, <-chan struct{}) {
	p.portsMu.Lock()
	defer p.portsMu.Unlock()
	port, ok := p.ports[portID]
	return port, ok, p.changed
}

func (p *Plane) tap(ctx context.Context, port nodeapi.Port) (*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return nil, errs.New(errs.Unavailable, "port %s: the data plane is closed", port.ID)
	}
	if _, ok, _ := p.lookup(port.ID); !ok {
		return nil, errs.NotFoundf("port %s has gone", port.ID)
	}
	f, err := p.openTap(port.ID)
	if err != nil {
		return nil, err
	}
	h, err := p.node.Link()
	if err == nil {
		var link netlink.Link
		if link, err = h.LinkByName(ifname.Tap(port.ID)); err == nil {
			err = plug(h, link, ifname.Bridge(port.NetworkID), orDefault(p.bridges[port.NetworkID].MTU))
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("port %s: %w", port.ID, err)
	}
	p.report(port.ID, true)
	return f, nil
}

// TapAhead is Tap for a port that is still at another node: the device is made
// without being plugged in. Apply plugs it in once the port is local, after its rules.
func (p *Plane) TapAhead(_ context.Context, portID string) (*os.File, error) {
	if err := checkID(portID); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return nil, errs.New(errs.Unavailable, "port %s: the data plane is closed", portID)
	}
	f, err := p.openTap(portID)
	if err == nil {
		p.ahead[portID] = true
	}
	return f, err
}

// openTap makes a port's device. mu is held.
func (p *Plane) openTap(portID string) (f *os.File, err error) {
	name := ifname.Tap(portID)
	err = p.node.Do(func() (err error) { f, err = openTap(name); return err })
	if errors.Is(err, unix.EBUSY) {
		return nil, errs.Conflictf("port %s: %s is in use by another process", portID, name)
	}
	if err != nil {
		return nil, fmt.Errorf("port %s: making %s: %w", portID, name, err)
	}
	return f, nil
}

// openTap opens a persistent tap device in the namespace of this thread.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Unplug removes a port's tap device. An absent one is no error.
func (p *Plane) Unplug(ctx context.Context, portID string) error {
	if err := checkID(portID); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return errs.New(errs.Unavailable, "port %s: the data plane is closed", portID)
	}
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	delete(p.ahead, portID)
	link, err := h.LinkByName(ifname.Tap(portID))
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !isGone(err) {
		return fmt.Errorf("port %s: removing %s: %w", portID, ifname.Tap(portID), err)
	}
	p.report(portID, false)
	return nil
}

// Counters counts a local port's traffic as the machine behind it sees it: what
// the tap sends is what the machine receives.
func (p *Plane) Counters(_ context.Context, portID string) (nodeapi.NICDiagnostics, error) {
	var out nodeapi.NICDiagnostics
	if err := checkID(portID); err != nil {
		return out, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return out, errs.New(errs.Unavailable, "port %s: the data plane is closed", portID)
	}
	h, err := p.node.Link()
	if err != nil {
		return out, err
	}
	link, err := h.LinkByName(ifname.Tap(portID))
	if err != nil {
		return out, fmt.Errorf("port %s: reading its counters: %w", portID, err)
	}
	if s := link.Attrs().Statistics; s != nil {
		out.RxBytes, out.RxPackets, out.RxDrop, out.RxErrors = int64(s.TxBytes), int64(s.TxPackets), int64(s.TxDropped), int64(s.TxErrors)
		out.TxBytes, out.TxPackets, out.TxDrop, out.TxErrors = int64(s.RxBytes), int64(s.RxPackets), int64(s.RxDropped), int64(s.RxErrors)
	}
	return out, nil
}

// ensureTaps checks the taps that exist and reports every local port's state.
func (p *Plane) ensureTaps() error {
	h, err := p.node.Link()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing taps: %w", err)
	}
	byName := make(map[string]netlink.Link, len(links))
	for _, l := range links {
		byName[l.Attrs().Name] = l
	}
	var failed []error
	local := map[string]bool{}
	for _, port := range p.state.Ports {
		if !port.Local || port.Behind != "" {
			continue
		}
		local[port.ID] = true
		link := byName[ifname.Tap(port.ID)]
		br := byName[ifname.Bridge(port.NetworkID)]
		if link == nil || br == nil {
			p.report(port.ID, false)
			continue
		}
		var err error
		if mtu := orDefault(p.bridges[port.NetworkID].MTU); link.Attrs().MasterIndex != br.Attrs().Index || link.Attrs().MTU != mtu {
			err = plug(h, link, br.Attrs().Name, mtu)
			failed = append(failed, err)
		}
		p.report(port.ID, err == nil)
	}
	for id := range p.reported {
		if !local[id] {
			delete(p.reported, id)
		}
	}
	return errors.Join(failed...)
}

// report tells of a port's state when it differs from what was told last.
func (p *Plane) report(portID string, up bool) {
	if was, told := p.reported[portID]; told && was == up {
		return
	}
	p.reported[portID] = up
	if p.cfg.OnStatus != nil {
		p.cfg.OnStatus(nodeapi.PortStatus{PortID: portID, Up: up})
	}
}
