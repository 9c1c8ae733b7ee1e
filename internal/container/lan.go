package container

import (
	"errors"

	"github.com/docker/docker/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// The drivers of networks that a user may make.
const (
	driverBridge  = "bridge"
	driverMacvlan = "macvlan"
)

// The options of a network of the driver macvlan.
const (
	optionParent = "parent"
	optionMode   = "macvlan_mode"
)

func macvlanMode(name string) (netlink.MacvlanMode, bool) {
	switch name {
	case "", "bridge":
		return netlink.MACVLAN_MODE_BRIDGE, true
	case "private":
		return netlink.MACVLAN_MODE_PRIVATE, true
	case "vepa":
		return netlink.MACVLAN_MODE_VEPA, true
	case "passthru":
		return netlink.MACVLAN_MODE_PASSTHRU, true
	}
	return 0, false
}

// lan tells whether a network is that of a device of the host.
func (n *Network) lan() bool { return n.Driver == driverMacvlan }

// wired tells whether containers have a device on a network.
func (n *Network) wired() bool { return n.Driver == driverBridge || n.lan() }

func (n *Network) host() bridge.LAN {
	mode, _ := macvlanMode(n.Options[optionMode]) // was checked
	return bridge.LAN{Parent: n.Options[optionParent], Mode: mode}
}

// checkLAN refuses a network of the driver macvlan that cannot be.
func (d *Daemon) checkLAN(n *Network) error {
	for k := range n.Options {
		if k != optionParent && k != optionMode {
			return errs.Invalidf("the option %s of a network of the driver %s is not supported by this engine", k, n.Driver)
		}
	}
	if _, ok := macvlanMode(n.Options[optionMode]); !ok {
		return errs.Invalidf("requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", n.Options[optionMode])
	}
	switch n.Options[optionParent] {
	case "":
		return errs.Invalidf("a macvlan network without a device of the host (-o parent=DEVICE) is not supported by this engine")
	case "lo":
		return errs.Invalidf("loopback interface is not a valid macvlan parent link")
	}
	for _, o := range d.lans() {
		if o.Options[optionParent] == n.Options[optionParent] && (o.Options[optionMode] == "passthru" || n.Options[optionMode] == "passthru") {
			return errs.Invalidf("cannot use mode passthru, macvlan network %s is already using parent interface %s", o.ID, n.Options[optionParent])
		}
	}
	if err := d.plane.Check(n.host()); err != nil {
		return errs.Invalidf("a macvlan network cannot be made here: %s", err)
	}
	return nil
}

func (d *Daemon) lans() (out []*Network) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nets {
		if n.lan() {
			out = append(out, n)
		}
	}
	return out
}

// wire gives a container whose namespace is open its device.
func (d *Daemon) wire(id string, p place) error {
	switch {
	case p.n.lan():
		return d.plane.Join(id, p.e.plane(p.n), p.n.host())
	case p.n.wired():
		return d.plane.Connect(id, p.e.plane(p.n))
	}
	return nil
}

// unwire takes it away again.
func (d *Daemon) unwire(id string, n *Network, e *Endpoint) error {
	if n.lan() {
		return d.plane.Leave(id, e.Device)
	}
	return d.plane.Disconnect(e.ID)
}

// leaveLANs takes a container's devices on LANs away, at the end of a run. They would go with
// the namespace, but the kernel takes its time, in which no other may have their addresses.
func (d *Daemon) leaveLANs(r Record) error {
	var all []error
	for _, p := range d.places(r) {
		if p.n.lan() && p.e.Device != "" {
			all = append(all, d.plane.Leave(r.ID, p.e.Device))
		}
	}
	return errors.Join(all...)
}

// inlets are the places at which a container's published ports come in. On a LAN its ports
// are reached at its own address.
func inlets(places []place) (four, six *place) {
	four, six = ways(places)
	for _, p := range []**place{&four, &six} {
		if *p != nil && (*p).n.lan() {
			*p = nil
		}
	}
	return four, six
}

// driverOf is the driver of a network that a client wants.
func driverOf(req network.CreateRequest) (string, error) {
	switch req.Driver {
	case "", "default", driverBridge:
		return driverBridge, checkOptions(req.Options)
	case driverMacvlan:
		return driverMacvlan, nil
	case "host", "null":
		return "", errs.Forbiddenf("only one instance of %q network is allowed", req.Driver)
	case "ipvlan", "overlay":
		return "", errs.Invalidf("the network driver %s is not supported by this engine", req.Driver)
	}
	return "", errs.NotFoundf("plugin %q not found", req.Driver)
}
