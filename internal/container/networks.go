package container

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/container/ipam"
	"github.com/strata-cloud/strata/internal/errs"
)

// Network is what is kept of a network.
type Network struct {
	ID, Name   string
	Driver     string // bridge, macvlan, host, null
	Created    time.Time
	V4, V6     ipam.Pool // of a bridge; V6 is optional
	NoV4       bool      // has V6 alone
	Internal   bool
	Attachable bool
	Chosen     bool // the IPv4 subnet, by the user
	Chosen6    bool
	Labels     map[string]string
	Options    map[string]string
}

// The options of a bridge.
const (
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optionHostIP     = "com.docker.network.bridge.host_binding_ipv4"
	optionMTU        = "com.docker.network.driver.mtu"
	optionDevice     = "com.docker.network.container_iface_prefix"
)

// off tells whether an option that is on by default is not.
func (n *Network) off(option string) bool {
	on, err := strconv.ParseBool(n.Options[option])
	return err == nil && !on
}

func (n *Network) plane() bridge.Network {
	mtu, _ := strconv.Atoi(n.Options[optionMTU]) // was checked; 0: none
	return bridge.Network{ID: n.ID, V4: bridge.Subnet{Prefix: n.V4.Subnet, Gateway: n.V4.Gateway}, V6: bridge.Subnet{Prefix: n.V6.Subnet, Gateway: n.V6.Gateway},
		Internal: n.Internal, Apart: n.off(optionICC), Routed: n.off(optionMasquerade), MTU: mtu}
}

// named tells whether containers on it find each other by name.
func (n *Network) named() bool { return n.wired() && n.Name != bridgeNetwork }

// device begins the names of containers' devices.
func (n *Network) device() string {
	if p := n.Options[optionDevice]; p != "" {
		return p
	}
	return "eth"
}

// subnet shows a pool to the checks of Docker's types.
type subnet struct {
	ipam.Pool
	chosen bool
}

// IsStatic implements network.NetworkSubnet.
func (s subnet) IsStatic() bool { return s.chosen }

// Contains implements network.NetworkSubnet.
func (s subnet) Contains(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && s.Pool.Contains(a.Unmap())
}

func (n *Network) subnets() (v4, v6 []network.NetworkSubnet) {
	if n.V4.Valid() {
		v4 = append(v4, subnet{n.V4, n.Chosen})
	}
	if n.V6.Valid() {
		v6 = append(v6, subnet{n.V6, n.Chosen6})
	}
	return v4, v6
}

// The networks that are always there.
const (
	bridgeNetwork = "bridge"
	hostNetwork   = "host"
	noneNetwork   = "none"
)

// defaultNetworks makes them at the first start. The subnet of the bridge is
// chosen when the first container needs it.
func (d *Daemon) defaultNetworks() error {
	for name, driver := range map[string]string{bridgeNetwork: "bridge", hostNetwork: "host", noneNetwork: "null"} {
		if _, err := d.findNetwork(name); err == nil {
			continue
		}
		n := &Network{ID: newID(), Name: name, Driver: driver, Created: time.Now().UTC(), Labels: map[string]string{}, Options: map[string]string{}}
		if err := d.networks.put(n.ID, n); err != nil {
			return err
		}
		d.nets[n.ID] = n
	}
	return nil
}

// findNetwork gives a network by id, name, or the beginning of its id.
func (d *Daemon) findNetwork(ref string) (*Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.networkLocked(ref)
}

func (d *Daemon) networkLocked(ref string) (*Network, error) {
	if n := d.nets[ref]; n != nil {
		return n, nil
	}
	var found []*Network
	for _, n := range d.nets {
		if n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errs.NotFoundf("network %s not found", ref)
	}
	return nil, errs.Invalidf("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

// RemoveNetwork removes a network that no container is on.
func (d *Daemon) RemoveNetwork(ref string) error {
	n, err := d.findNetwork(ref)
	if err != nil {
		return err
	}
	if n.Name == bridgeNetwork || n.Name == hostNetwork || n.Name == noneNetwork {
		return errs.Forbiddenf("%s is a pre-defined network and cannot be removed", n.Name)
	}
	d.mu.Lock()
	for _, c := range d.byID {
		if r := c.record(); r.Endpoints[n.Name] != nil && r.Endpoints[n.Name].ID != "" {
			d.mu.Unlock()
			return errs.Forbiddenf("error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, r.Name, r.Endpoints[n.Name].ID[:12])
		}
	}
	if err = d.networks.remove(n.ID); err == nil {
		delete(d.nets, n.ID)
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	if err := d.syncNetworks(); err != nil {
		return err
	}
	d.networkEvent(events.ActionDestroy, n, "")
	return nil
}

// networkEvent tells of a network, and of the container that comes or goes.
func (d *Daemon) networkEvent(action events.Action, n *Network, container string) {
	attrs := map[string]string{"name": n.Name, "type": n.Driver}
	if container != "" {
		attrs["container"] = container
	}
	d.Events.send(events.NetworkEventType, action, n.ID, attrs)
}

// Networks lists all, by name, with the containers that are on them now.
func (d *Daemon) Networks() []network.Inspect {
	d.mu.Lock()
	nets := make([]*Network, 0, len(d.nets))
	for _, n := range d.nets {
		nets = append(nets, n)
	}
	d.mu.Unlock()
	slices.SortFunc(nets, func(a, b *Network) int { return compare(a.Name, b.Name) })
	out := make([]network.Inspect, 0, len(nets))
	for _, n := range nets {
		out = append(out, d.networkView(n))
	}
	return out
}

// Network gives one.
func (d *Daemon) Network(ref string) (network.Inspect, error) {
	n, err := d.findNetwork(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	return d.networkView(n), nil
}

func (d *Daemon) networkView(n *Network) network.Inspect {
	v := network.Inspect{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.wired() && !n.NoV4, EnableIPv6: n.V6.Valid(), Internal: n.Internal, Attachable: n.Attachable,
		IPAM: network.IPAM{Driver: "default", Options: map[string]string{}, Config: []network.IPAMConfig{}}, Containers: map[string]network.EndpointResource{}, Options: n.Options, Labels: n.Labels}
	if !n.wired() {
		v.IPAM.Options = nil // as upstream
	}
	for _, p := range []ipam.Pool{n.V4, n.V6} {
		if p.Valid() {
			v.IPAM.Config = append(v.IPAM.Config, poolView(p))
		}
	}
	for _, c := range d.list() {
		r := c.record()
		e := r.Endpoints[n.Name]
		if e == nil || e.Network != n.ID || e.ID == "" {
			continue
		}
		res := network.EndpointResource{Name: r.Name, EndpointID: e.ID}
		if e.Addr.IsValid() {
			res.IPv4Address = n.V4.Prefix(e.Addr).String()
		}
		if m := e.mac(); m != nil {
			res.MacAddress = m.String()
		}
		if e.Addr6.IsValid() {
			res.IPv6Address = n.V6.Prefix(e.Addr6).String()
		}
		v.Containers[r.ID] = res
	}
	return v
}

func poolView(p ipam.Pool) network.IPAMConfig {
	c := network.IPAMConfig{Subnet: p.Subnet.String(), Gateway: p.Gateway.String()}
	if p.Range.IsValid() {
		c.IPRange = p.Range.String()
	}
	for name, a := range p.Aux {
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]string{}
		}
		c.AuxAddress[name] = a.String()
	}
	return c
}
