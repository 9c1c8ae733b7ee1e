package container

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// Network is what is kept of a network.
type Network struct {
	ID, Name string
	Driver   string // bridge, host, null
	Created  time.Time
	Subnet   netip.Prefix // of a bridge
	Gateway  netip.Addr
	Internal bool
	Chosen   bool // the subnet, by the user
	Labels   map[string]string
	Options  map[string]string
}

func (n *Network) plane() bridge.Network {
	return bridge.Network{ID: n.ID, Subnet: n.Subnet, Gateway: n.Gateway, Internal: n.Internal}
}

// Endpoint is a container on a network. It has an address while it runs.
type Endpoint struct {
	Network string // id
	ID      string
	Addr    netip.Addr
	Wanted  netip.Addr // by the user
	Aliases []string
}

// want reads what a user asks of an endpoint.
func (e *Endpoint) want(n *Network, s *network.EndpointSettings) error {
	if len(s.Links) > 0 || len(s.DriverOpts) > 0 || s.MacAddress != "" {
		return errs.Invalidf("links, options and a MAC address of an endpoint are not supported by this engine")
	}
	e.Aliases = s.Aliases
	if s.IPAMConfig == nil || s.IPAMConfig.IPv4Address == "" && s.IPAMConfig.IPv6Address == "" {
		return nil
	}
	a, err := netip.ParseAddr(s.IPAMConfig.IPv4Address)
	switch {
	case s.IPAMConfig.IPv6Address != "":
		return errs.Invalidf("IPv6 addresses are not supported by this engine")
	case err != nil || !a.Is4():
		return errs.Invalidf("invalid IPv4 address: %s", s.IPAMConfig.IPv4Address)
	case !n.Chosen:
		return errs.Invalidf("user specified IP address is supported only when connecting to networks with user configured subnets")
	case !n.Subnet.Contains(a):
		return errs.Invalidf("no configured subnet contains IP address %s", a)
	}
	e.Wanted = a
	return nil
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

// pools are where subnets without a wish come from: dockerd's.
func pools() (out []netip.Prefix) {
	for i := 17; i < 32; i++ {
		out = append(out, netip.MustParsePrefix("172."+strconv.Itoa(i)+".0.0/16"))
	}
	for i := 0; i < 256; i += 16 {
		out = append(out, netip.MustParsePrefix("192.168."+strconv.Itoa(i)+".0/20"))
	}
	return out
}

// free chooses a subnet that neither the host nor another network has.
func (d *Daemon) free(want netip.Prefix) (netip.Prefix, error) {
	taken, err := d.plane.Taken()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, n := range d.nets {
		if n.Subnet.IsValid() {
			taken = append(taken, n.Subnet)
		}
	}
	overlaps := func(p netip.Prefix) bool { return slices.ContainsFunc(taken, p.Overlaps) }
	if want.IsValid() {
		if overlaps(want) {
			return want, errs.Forbiddenf("invalid pool request: Pool overlaps with other one on this address space")
		}
		return want, nil
	}
	for _, p := range pools() {
		if !overlaps(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, errs.Invalidf("all predefined address pools have been fully subnetted")
}

// CreateNetwork makes a bridge.
func (d *Daemon) CreateNetwork(req network.CreateRequest) (string, error) {
	n := &Network{ID: newID(), Name: req.Name, Driver: "bridge", Created: time.Now().UTC(), Internal: req.Internal, Labels: over(req.Labels, nil), Options: over(req.Options, nil)}
	if !nameRE.MatchString(req.Name) {
		return "", errs.Invalidf("invalid network name: %q", req.Name)
	}
	want, err := wantedSubnet(req)
	if err != nil {
		return "", err
	}
	n.Chosen = want.IsValid()
	d.mu.Lock()
	for _, o := range d.nets {
		if o.Name == req.Name {
			d.mu.Unlock()
			return "", errs.Conflictf("network with name %s already exists", req.Name)
		}
	}
	if n.Subnet, err = d.free(want); err == nil {
		n.Gateway = n.Subnet.Masked().Addr().Next()
		if g := gateway(req); g.IsValid() {
			n.Gateway = g
		}
		if err = d.networks.put(n.ID, n); err == nil {
			d.nets[n.ID] = n
		}
	}
	d.mu.Unlock()
	if err != nil {
		return "", err
	}
	if err := d.syncNetworks(); err != nil {
		return "", err
	}
	d.Events.send(events.NetworkEventType, events.ActionCreate, n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return n.ID, nil
}

// wantedSubnet reads a request and refuses what cannot be honoured.
func wantedSubnet(req network.CreateRequest) (netip.Prefix, error) {
	no := func(what string) (netip.Prefix, error) {
		return netip.Prefix{}, errs.Invalidf("%s of a network is not supported by this engine", what)
	}
	switch {
	case req.Driver != "" && req.Driver != "bridge" && req.Driver != "default":
		return netip.Prefix{}, errs.NotFoundf("plugin %q not found", req.Driver)
	case req.EnableIPv6 != nil && *req.EnableIPv6:
		return no("IPv6")
	case req.EnableIPv4 != nil && !*req.EnableIPv4:
		return no("a lack of IPv4")
	case req.Ingress || req.ConfigOnly || req.ConfigFrom != nil:
		return no("swarm's configuration")
	case len(req.Options) > 0:
		return no("a driver option")
	}
	if req.IPAM == nil || len(req.IPAM.Config) == 0 {
		return netip.Prefix{}, nil
	}
	c := req.IPAM.Config[0]
	switch {
	case req.IPAM.Driver != "" && req.IPAM.Driver != "default":
		return no("the address driver " + req.IPAM.Driver)
	case len(req.IPAM.Config) > 1:
		return no("more than one subnet")
	case c.IPRange != "" || len(c.AuxAddress) > 0:
		return no("an address range or auxiliary address")
	}
	p, err := netip.ParsePrefix(c.Subnet)
	if err != nil || !p.Addr().Is4() || p != p.Masked() || p.Bits() > 30 {
		return p, errs.Invalidf("invalid network config: invalid subnet %s: it should be an IPv4 network of at least 4 addresses", c.Subnet)
	}
	if g := gateway(req); c.Gateway != "" && (!g.IsValid() || !p.Contains(g)) {
		return p, errs.Invalidf("invalid network config: invalid gateway %s: parent subnet is %s", c.Gateway, p)
	}
	return p, nil
}

func gateway(req network.CreateRequest) netip.Addr {
	if req.IPAM == nil || len(req.IPAM.Config) == 0 {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(req.IPAM.Config[0].Gateway)
	return a
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
	for _, c := range d.list() {
		if r := c.record(); r.State.Running() && r.Endpoints[n.Name] != nil {
			return errs.Forbiddenf("error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, r.Name, r.ID[:12])
		}
	}
	d.mu.Lock()
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
	d.Events.send(events.NetworkEventType, events.ActionDestroy, n.ID, map[string]string{"name": n.Name, "type": n.Driver})
	return nil
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
	v := network.Inspect{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.Driver == "bridge", Internal: n.Internal,
		IPAM: network.IPAM{Driver: "default", Options: map[string]string{}, Config: []network.IPAMConfig{}}, Containers: map[string]network.EndpointResource{}, Options: n.Options, Labels: n.Labels}
	if n.Subnet.IsValid() {
		v.IPAM.Config = append(v.IPAM.Config, network.IPAMConfig{Subnet: n.Subnet.String(), Gateway: n.Gateway.String()})
	}
	for _, c := range d.list() {
		r := c.record()
		e := r.Endpoints[n.Name]
		if e == nil || !r.State.Running() {
			continue
		}
		res := network.EndpointResource{Name: r.Name, EndpointID: e.ID}
		if e.Addr.IsValid() {
			res.IPv4Address, res.MacAddress = netip.PrefixFrom(e.Addr, n.Subnet.Bits()).String(), bridge.MAC(e.Addr).String()
		}
		v.Containers[r.ID] = res
	}
	return v
}
