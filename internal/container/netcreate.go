package container

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/container/ipam"
	"github.com/strata-cloud/strata/internal/errs"
)

// CreateNetwork makes a network.
func (d *Daemon) CreateNetwork(req network.CreateRequest) (string, error) {
	if !nameRE.MatchString(req.Name) {
		return "", errs.Invalidf("invalid network name: %q", req.Name)
	}
	if err := supportedNetwork(req); err != nil {
		return "", err
	}
	driver, err := driverOf(req)
	if err != nil {
		return "", err
	}
	n := &Network{ID: newID(), Name: req.Name, Driver: driver, Created: time.Now().UTC(), Internal: req.Internal, Attachable: req.Attachable, NoV4: req.EnableIPv4 != nil && !*req.EnableIPv4, Labels: over(req.Labels, nil), Options: over(req.Options, nil)}
	six := req.EnableIPv6 != nil && *req.EnableIPv6
	if err := n.wantPools(req.IPAM, six); err != nil {
		return "", err
	}
	if n.lan() {
		if err := d.checkLAN(n); err != nil {
			return "", err
		}
	}
	d.mu.Lock()
	err = d.addNetworkLocked(n, six)
	d.mu.Unlock()
	if err != nil {
		return "", err
	}
	if err := d.syncNetworks(); err != nil {
		return "", err
	}
	d.networkEvent(events.ActionCreate, n, "")
	return n.ID, nil
}

func (d *Daemon) addNetworkLocked(n *Network, six bool) error {
	for _, o := range d.nets {
		if o.Name == n.Name {
			return errs.Conflictf("network with name %s already exists", n.Name)
		}
	}
	if err := d.allot(n, six); err != nil {
		return err
	}
	if err := d.networks.put(n.ID, n); err != nil {
		return err
	}
	d.nets[n.ID] = n
	return nil
}

// allot gives a network subnets that neither the host nor another network has, and
// gateways.
func (d *Daemon) allot(n *Network, six bool) error {
	taken, err := d.plane.Taken()
	if err != nil {
		return err
	}
	if n.lan() && n.Chosen { // what the host has there is the very network
		taken = nil
	}
	for _, o := range d.nets {
		for _, p := range []ipam.Pool{o.V4, o.V6} {
			if p.Valid() {
				taken = append(taken, p.Subnet)
			}
		}
	}
	for _, p := range []ipam.Pool{n.V4, n.V6} {
		if p.Valid() && ipam.Overlaps(p.Subnet, taken) {
			return errs.Forbiddenf("invalid pool request: Pool overlaps with other one on this address space")
		}
	}
	ok, ok6 := true, true
	if !n.V4.Valid() && !n.NoV4 {
		if b, err := d.networkLocked(bridgeNetwork); n.Name != bridgeNetwork && err == nil && !b.V4.Valid() {
			first, _ := ipam.Subnet4(taken) // is what the bridge will get, as with dockerd
			taken = append(taken, first)
		}
		n.V4.Subnet, ok = ipam.Subnet4(taken)
	}
	if six && !n.V6.Valid() {
		n.V6.Subnet, ok6 = ipam.Subnet6(ipam.Unique(d.cfg.Name), taken)
	}
	if !ok || !ok6 {
		return errs.Invalidf("all predefined address pools have been fully subnetted")
	}
	for _, p := range []*ipam.Pool{&n.V4, &n.V6} {
		if !p.Valid() {
			continue
		}
		if *p, ok = p.WithGateway(); !ok {
			return errs.Invalidf("no available addresses in %s for a gateway", p.Subnet)
		}
	}
	return nil
}

// supportedNetwork refuses what cannot be honoured.
func supportedNetwork(req network.CreateRequest) error {
	no := func(what string) error {
		return errs.Invalidf("%s of a network is not supported by this engine", what)
	}
	switch {
	case req.EnableIPv4 != nil && !*req.EnableIPv4 && (req.EnableIPv6 == nil || !*req.EnableIPv6):
		return errs.Invalidf("IPv4 or IPv6 must be enabled")
	case req.Ingress || req.ConfigOnly || req.ConfigFrom != nil || req.Scope != "" && req.Scope != "local":
		return no("swarm's configuration")
	case req.IPAM != nil && req.IPAM.Driver != "" && req.IPAM.Driver != "default":
		return no("the address driver " + req.IPAM.Driver)
	case req.IPAM != nil && len(req.IPAM.Options) > 0:
		return no("an option of the address driver")
	}
	return nil
}

// checkOptions takes those of a bridge that have a meaning here.
func checkOptions(options map[string]string) error {
	for k, v := range options {
		var err error
		switch k {
		case optionICC, optionMasquerade:
			_, err = strconv.ParseBool(v)
		case optionHostIP:
			var a netip.Addr
			if a, err = netip.ParseAddr(v); err == nil && !a.Is4() {
				err = errs.Invalidf("not IPv4")
			}
		case optionMTU:
			var n int
			if n, err = strconv.Atoi(v); err == nil && (n < 68 || n > 65535) {
				err = errs.Invalidf("out of range")
			}
		case optionDevice:
			if !nameRE.MatchString(v+"0") || len(v) > 10 {
				err = errs.Invalidf("no beginning of a device's name")
			}
		default:
			return errs.Invalidf("the option %s of a network is not supported by this engine", k)
		}
		if err != nil {
			return errs.Invalidf("invalid value %q for the option %s of a network", v, k)
		}
	}
	return nil
}

// wantPools reads the subnets that a user asks for.
func (n *Network) wantPools(req *network.IPAM, six bool) error {
	if err := network.ValidateIPAM(req, six); err != nil {
		return errs.Invalidf("%s", err)
	}
	if req == nil {
		return nil
	}
	for _, c := range req.Config {
		if c.Subnet == "" && c.IPRange == "" && c.Gateway == "" && len(c.AuxAddress) == 0 {
			continue
		}
		p, err := readPool(c)
		if err != nil {
			return err
		}
		pool, chosen := &n.V4, &n.Chosen
		if p.Subnet.Addr().Is6() {
			pool, chosen = &n.V6, &n.Chosen6
		}
		if pool.Valid() {
			return errs.Forbiddenf("%s driver doesn't support multiple subnets", n.Driver)
		}
		*pool, *chosen = p, true
	}
	if n.NoV4 && n.V4.Valid() {
		n.V4, n.Chosen = ipam.Pool{}, false
	}
	if !six && n.V6.Valid() {
		n.V6, n.Chosen6 = ipam.Pool{}, false // as dockerd: kept for those who ask for IPv6
	}
	return nil
}

func readPool(c network.IPAMConfig) (p ipam.Pool, err error) {
	bad := func(what, is string) (ipam.Pool, error) {
		return p, errs.Invalidf("invalid network config: invalid %s %s: parent subnet is %s", what, is, c.Subnet)
	}
	p.Subnet, err = netip.ParsePrefix(c.Subnet)
	if err != nil || p.Subnet.Addr().BitLen()-p.Subnet.Bits() < 2 {
		return p, errs.Invalidf("invalid network config: invalid subnet %s: it should be a network of at least 4 addresses", c.Subnet)
	}
	if c.Gateway != "" {
		if p.Gateway, err = netip.ParseAddr(c.Gateway); err != nil || !p.Contains(p.Gateway) {
			return bad("gateway", c.Gateway)
		}
	}
	if c.IPRange != "" {
		if p.Range, err = netip.ParsePrefix(c.IPRange); err != nil || !p.Contains(p.Range.Addr()) || p.Range.Bits() < p.Subnet.Bits() {
			return bad("ip-range", c.IPRange)
		}
	}
	for name, s := range c.AuxAddress {
		a, err := netip.ParseAddr(s)
		if err != nil || !p.Contains(a) {
			return bad("auxiliary address", s)
		}
		if p.Aux == nil {
			p.Aux = map[string]netip.Addr{}
		}
		p.Aux[name] = a
	}
	return p, nil
}
