package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// sane leaves out the objects that cannot be realised, because an id could not
// be a name or an address is none, and says which. What remains may be written
// into rules and names as it is.
func sane(st nodeapi.NetState) (nodeapi.NetState, error) {
	var errs []error
	bad := func(kind, id string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", kind, id, err))
		}
		return err != nil
	}
	st.Networks = filter(st.Networks, func(n nodeapi.Network) bool { return bad("network", n.ID, checkNetwork(n)) })
	st.Ports = filter(st.Ports, func(p nodeapi.Port) bool { return bad("port", p.ID, checkPort(p)) })
	st.Routers = filter(st.Routers, func(r nodeapi.Router) bool { return bad("router", r.ID, checkRouter(r)) })
	st.SecurityGroups = filter(st.SecurityGroups, func(g nodeapi.SecurityGroup) bool {
		return bad("security group", g.ID, checkGroup(g))
	})
	return st, errors.Join(errs...)
}

// filter copies s without what drop says.
func filter[T any](s []T, drop func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(s), drop)
}

func checkNetwork(n nodeapi.Network) error {
	if n.ServicePortID != "" {
		if err := errors.Join(checkID(n.ServicePortID), checkMAC(n.ServiceMAC)); err != nil {
			return err
		}
	}
	for _, s := range n.Subnets {
		if !s.CIDR.IsValid() {
			return fmt.Errorf("subnet %q has no CIDR", s.ID)
		}
	}
	errs := []error{checkID(n.ID), checkPrefixes(n.ServiceAddrs), checkVNI(n.VNI)}
	if n.VLAN < 0 || n.VLAN > 4094 {
		errs = append(errs, fmt.Errorf("VLAN %d is out of range", n.VLAN))
	}
	if n.HostEnd != nil {
		errs = append(errs, checkMAC(n.HostEnd.MAC), checkPrefixes(n.HostEnd.Addrs))
	}
	for _, e := range n.Endpoints {
		errs = append(errs, checkMAC(e.MAC))
		for _, a := range e.Addrs {
			if !a.IsValid() || a.Zone() != "" {
				errs = append(errs, errors.New("address of an endpoint is invalid"))
			}
		}
	}
	return errors.Join(errs...)
}

func checkVNI(vni int) error {
	if vni < 0 || vni >= 1<<24 {
		return fmt.Errorf("VXLAN id %d is out of range", vni)
	}
	return nil
}

func checkPort(p nodeapi.Port) error {
	for _, ip := range p.FixedIPs {
		if !ip.Addr.IsValid() || ip.Addr.Zone() != "" {
			return errors.New("fixed address is invalid")
		}
	}
	for _, a := range p.Routed {
		if !a.IsValid() || a.Zone() != "" {
			return errors.New("address behind the port is invalid")
		}
	}
	for _, a := range p.AllowedPairs {
		if !a.Prefix.IsValid() {
			return errors.New("allowed address pair is invalid")
		}
		if a.MAC != "" && checkMAC(a.MAC) != nil {
			return fmt.Errorf("allowed MAC %q is invalid", a.MAC)
		}
	}
	if p.Behind != "" && checkID(p.Behind) != nil {
		return fmt.Errorf("the port that it is behind: %w", checkID(p.Behind))
	}
	return errors.Join(checkID(p.ID), checkID(p.NetworkID), checkMAC(p.MAC))
}

func checkRouter(r nodeapi.Router) error {
	errs := []error{checkID(r.ID), checkVNI(r.TransitVNI)}
	legs := r.Interfaces
	if r.Gateway != nil {
		legs = append(slices.Clone(legs), r.Gateway.RouterInterface)
	}
	for _, l := range legs {
		errs = append(errs, checkID(l.PortID), checkID(l.NetworkID), checkMAC(l.MAC), checkPrefixes(l.Addrs))
	}
	for _, f := range r.FloatingIPs {
		if !f.Floating.Is4() || !f.Fixed.Is4() {
			errs = append(errs, fmt.Errorf("floating IP %s is not a pair of IPv4 addresses", f.ID))
		}
	}
	for _, x := range r.Routes {
		if !x.Destination.IsValid() || !x.NextHop.IsValid() {
			errs = append(errs, errors.New("static route is invalid"))
		}
	}
	return errors.Join(errs...)
}

func checkGroup(g nodeapi.SecurityGroup) error {
	errs := []error{checkID(g.ID)}
	for _, r := range g.Rules {
		if r.RemoteGroupID != "" {
			errs = append(errs, checkID(r.RemoteGroupID))
		}
		if r.Direction != "ingress" && r.Direction != "egress" {
			errs = append(errs, fmt.Errorf("rule %s has direction %q", r.ID, r.Direction))
		}
		v4 := r.EtherType == "IPv4"
		if !v4 && r.EtherType != "IPv6" {
			errs = append(errs, fmt.Errorf("rule %s has ethertype %q", r.ID, r.EtherType))
		}
		if r.RemotePrefix.IsValid() && r.RemotePrefix.Addr().Is4() != v4 {
			errs = append(errs, fmt.Errorf("rule %s has %s for %s", r.ID, r.RemotePrefix, r.EtherType))
		}
		if r.Protocol > 255 || r.PortMin > 65535 || r.PortMax > 65535 {
			errs = append(errs, fmt.Errorf("rule %s is out of range", r.ID))
		}
	}
	return errors.Join(errs...)
}

var idRE = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,63}$`)

func checkID(id string) error {
	if !idRE.MatchString(id) {
		return fmt.Errorf("id %q is not usable in a name", id)
	}
	return nil
}

func checkMAC(mac string) error {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return fmt.Errorf("MAC %q is not six bytes", mac)
	}
	return nil
}

func checkPrefixes(ps []netip.Prefix) error {
	for _, p := range ps {
		if !p.IsValid() {
			return errors.New("address is invalid")
		}
	}
	return nil
}
