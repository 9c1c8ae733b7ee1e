package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kind says in which of the kernel's tables an entry is.
type kind int

const (
	flooded   kind = iota // VXLAN: a node that gets broadcasts
	tunnelled             // VXLAN: the node where a MAC is
	switched              // bridge: the port behind which a MAC is
	answered              // neighbours of the bridge: the MAC of an address, so that the bridge answers for it
)

// entry names an entry of a forwarding table, target is what it leads to.
type entry struct {
	kind kind
	mac  string     // tunnelled, switched
	addr netip.Addr // flooded, answered
}

type target struct {
	device string     // switched
	pinned bool       // switched: no frame from elsewhere moves it
	mac    string     // answered
	addr   netip.Addr // tunnelled
}

type entries map[entry]target

// allZeros is the MAC of VXLAN's default entries.
const allZeros = "00:00:00:00:00:00"

// stickyFlag is NTF_STICKY of linux/neighbour.h.
const stickyFlag = 0x40

// bridgeTables are the kernel's tables of one bridge and its VXLAN port.
type bridgeTables struct {
	h      *netlink.Handle
	bridge netlink.Link
	vxlan  netlink.Link
}

// neighbours are all forwarding and neighbour entries of a namespace, read once
// for as many bridges as are looked at, by device; a bridge's own by bridge.
type neighbours struct {
	read     bool
	byDevice map[int][]netlink.Neigh
	byBridge map[int][]netlink.Neigh
	names    map[int]string
}

func (n *neighbours) load(h *netlink.Handle) error {
	if n.read {
		return nil
	}
	n.byDevice, n.byBridge, n.names = map[int][]netlink.Neigh{}, map[int][]netlink.Neigh{}, map[int]string{}
	for _, family := range []int{unix.AF_BRIDGE, unix.AF_INET, unix.AF_INET6} {
		list, err := h.NeighList(0, family)
		if err != nil {
			return fmt.Errorf("listing forwarding entries: %w", err)
		}
		for _, x := range list {
			if family == unix.AF_BRIDGE && x.MasterIndex != 0 {
				n.byBridge[x.MasterIndex] = append(n.byBridge[x.MasterIndex], x)
				continue
			}
			n.byDevice[x.LinkIndex] = append(n.byDevice[x.LinkIndex], x)
		}
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	for _, l := range links {
		n.names[l.Attrs().Index] = l.Attrs().Name
	}
	n.read = true
	return nil
}

// have picks what we once made: of the bridge's table only static entries that
// lead to the overlay or are pinned, since all others are learned.
func (t *bridgeTables) have(n *neighbours) entries {
	out := entries{}
	vx, br := t.vxlan.Attrs().Index, t.bridge.Attrs().Index
	for _, x := range n.byDevice[vx] {
		switch {
		case x.Family != unix.AF_BRIDGE || x.IP == nil:
		case x.HardwareAddr.String() == allZeros:
			out[entry{kind: flooded, addr: addrOf(x.IP)}] = target{}
		default:
			out[entry{kind: tunnelled, mac: x.HardwareAddr.String()}] = target{addr: addrOf(x.IP)}
		}
	}
	for _, x := range n.byBridge[br] {
		pinned := x.Flags&stickyFlag != 0
		if x.State == unix.NUD_NOARP && (pinned || x.LinkIndex == vx) {
			out[entry{kind: switched, mac: x.HardwareAddr.String()}] = target{device: n.names[x.LinkIndex], pinned: pinned}
		}
	}
	for _, x := range n.byDevice[br] {
		if x.Family != unix.AF_BRIDGE && x.State == unix.NUD_PERMANENT {
			out[entry{kind: answered, addr: addrOf(x.IP)}] = target{mac: x.HardwareAddr.String()}
		}
	}
	return out
}

// change turns what is there into what is wanted.
func (t *bridgeTables) change(have, want entries) error {
	var errs []error
	for e, to := range have {
		if _, ok := want[e]; !ok {
			errs = append(errs, t.remove(e, to))
		}
	}
	for e, to := range want {
		if was, ok := have[e]; !ok || was != to {
			errs = append(errs, t.set(e, to))
		}
	}
	return errors.Join(errs...)
}

func (t *bridgeTables) set(e entry, to target) error {
	n, err := t.neigh(e, to)
	if err != nil {
		return err
	}
	if e.kind == flooded { // one entry, several destinations
		err = t.h.NeighAppend(n)
	} else {
		err = t.h.NeighSet(n)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: forwarding %s%v to %+v: %w", t.bridge.Attrs().Name, e.mac, e.addr, to, err)
	}
	return nil
}

func (t *bridgeTables) remove(e entry, to target) error {
	n, err := t.neigh(e, to)
	if err != nil {
		return nil // its device has gone, and the entry with it
	}
	if err := t.h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: no longer forwarding %s%v to %+v: %w", t.bridge.Attrs().Name, e.mac, e.addr, to, err)
	}
	return nil
}

// neigh is an entry in the words of netlink.
func (t *bridgeTables) neigh(e entry, to target) (*netlink.Neigh, error) {
	text := e.mac
	n := &netlink.Neigh{Family: unix.AF_BRIDGE, LinkIndex: t.vxlan.Attrs().Index, State: unix.NUD_NOARP | unix.NUD_PERMANENT, Flags: unix.NTF_SELF}
	switch e.kind {
	case flooded:
		text, n.IP = allZeros, e.addr.AsSlice()
	case tunnelled:
		n.IP = to.addr.AsSlice()
	case switched:
		n.State, n.Flags = unix.NUD_NOARP, unix.NTF_MASTER
		if to.pinned {
			n.Flags |= stickyFlag
		}
		link, err := t.h.LinkByName(to.device)
		if err != nil {
			return nil, fmt.Errorf("%s: device %s of %s: %w", t.bridge.Attrs().Name, to.device, e.mac, err)
		}
		n.LinkIndex = link.Attrs().Index
	case answered:
		text = to.mac
		n = &netlink.Neigh{Family: unix.AF_INET, LinkIndex: t.bridge.Attrs().Index, State: unix.NUD_PERMANENT, IP: e.addr.AsSlice()}
		if e.addr.Is6() {
			n.Family = unix.AF_INET6
		}
	}
	mac, err := net.ParseMAC(text)
	n.HardwareAddr = mac
	return n, err
}
