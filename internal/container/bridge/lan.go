package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
)

// LAN is a device of the host on whose network containers are as machines of their own:
// what docker calls the driver macvlan. There is no bridge, and no rules: nothing of it goes
// through the host.
type LAN struct {
	Parent string
	Mode   netlink.MacvlanMode
}

// link is a device on the LAN.
func (l LAN) link(h *netlink.Handle, name string) (*netlink.Macvlan, error) {
	parent, err := h.LinkByName(l.Parent)
	if err != nil {
		return nil, fmt.Errorf("the device %s: %w", l.Parent, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, parent.Attrs().Index
	return &netlink.Macvlan{LinkAttrs: attrs, Mode: l.Mode}, nil
}

// Check tries whether the kernel makes devices on the LAN.
func (p *Plane) Check(l LAN) error {
	h, err := p.host.Link()
	if err != nil {
		return err
	}
	try, err := l.link(h, p.name+"m")
	if err != nil {
		return err
	}
	err = h.LinkAdd(try)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no macvlan (CONFIG_MACVLAN)")
	case err != nil:
		return fmt.Errorf("a device on %s: %w", l.Parent, err)
	}
	return h.LinkDel(try)
}

// Join gives a container, whose namespace is open, a device on a LAN. It goes with the
// namespace, or with Leave.
func (p *Plane) Join(id string, e Endpoint, l LAN) error {
	err := p.Leave(id, e.Device)
	if err == nil {
		err = p.Do(id, func(ns *netns.NS) error { return p.joinIn(ns, e, l) })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("putting container %s on the network of %s: %w", id[:12], l.Parent, err), p.Leave(id, e.Device))
	}
	return nil
}

func (p *Plane) joinIn(ns *netns.NS, e Endpoint, l LAN) error {
	host, err := p.host.Link()
	if err != nil {
		return err
	}
	in, err := ns.Link()
	if err != nil {
		return err
	}
	dev, err := l.link(host, e.Device)
	if err != nil {
		return err
	}
	dev.HardwareAddr, dev.Namespace = e.MAC, netlink.NsFd(ns.FD())
	if err := host.LinkAdd(dev); err != nil {
		return err
	}
	eth, err := in.LinkByName(e.Device)
	if err != nil {
		return err
	}
	return errors.Join(e.number(in, eth), in.LinkSetUp(eth), e.settings(ns))
}

// Leave takes a container's device on a LAN away. What is not there is no error.
func (p *Plane) Leave(id, device string) error {
	err := p.Do(id, func(ns *netns.NS) error {
		h, err := ns.Link()
		if err != nil {
			return err
		}
		l, err := h.LinkByName(device)
		if err != nil {
			return ignoreNoLink(err)
		}
		return h.LinkDel(l)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func ignoreNoLink(err error) error {
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	return err
}
