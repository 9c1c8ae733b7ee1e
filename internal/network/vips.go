package network

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// ownerVIP is the device_owner of load balancers' ports, as upstream's clients know it.
const ownerVIP = "Octavia"

// VIPSpec is a port that a load balancer wants, on these subnets. An address that is not
// valid may be any.
type VIPSpec struct {
	PortID, NetworkID                   string
	At                                  []nodeapi.FixedIP
	Existing                            bool // made by the user: bind only
	LoadBalancer, Name, ProjectID, Node string
	Groups                              []string
}

func vipDevice(lb string) string { return "lb-" + lb }

// open tells whether everything may reach a port: a load balancer's listeners say
// themselves what they take, until somebody chooses security groups. Whose the port is
// cannot be told from device_owner, which users may set.
func (p *Port) open() bool { return p.VIP && len(p.Groups) == 0 }

// TakeVIP makes a load balancer's port, or takes the user's. also gets its addresses on the
// subnets, in their order, and is part of the transaction.
func (s *Service) TakeVIP(ctx context.Context, v VIPSpec, also func(tx *store.Tx, at []nodeapi.FixedIP) error) error {
	return s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, v.PortID)
		switch {
		case errs.Is(err, errs.NotFound) && !v.Existing:
			p, err = c.newVIP(v)
		case err != nil:
		case p.DeviceID != "":
			err = conflict("PortInUse", "Port %s is still in use.", p.ID)
		default:
			now := *p
			now.DeviceID, now.DeviceOwner, now.VIP, now.Host, now.Status = vipDevice(v.LoadBalancer), ownerVIP, true, v.Node, statusDown
			if len(v.Groups) > 0 {
				now.Groups = v.Groups
			}
			err = c.port.put(c, p, &now)
		}
		if err != nil {
			return err
		}
		var at []nodeapi.FixedIP
		for _, want := range v.At {
			i := slices.IndexFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool {
				return f.SubnetID == want.SubnetID && (!want.Addr.IsValid() || f.Addr == want.Addr)
			})
			if i < 0 {
				return errs.Conflictf("Port %s has no address on subnet %s.", v.PortID, want.SubnetID)
			}
			at = append(at, p.FixedIPs[i])
		}
		return also(c.tx, at)
	})
}

// newVIP makes a port with an address on each subnet, against the project's quota.
func (c *call) newVIP(v VIPSpec) (*Port, error) {
	n, err := get(c, c.networks, v.NetworkID)
	if err != nil {
		return nil, c.network.notFound(v.NetworkID)
	}
	if err := c.within("port", v.ProjectID, func() int { return c.ports.TxCount(c.tx, "project", v.ProjectID) }, 1); err != nil {
		return nil, err
	}
	p := &Port{Base: Base{ID: v.PortID, ProjectID: v.ProjectID, Name: v.Name, Created: c.now, Updated: c.now, Revision: 1}, NetworkID: n.ID, AdminUp: true,
		Status: statusDown, PortSecurity: true, DeviceID: vipDevice(v.LoadBalancer), DeviceOwner: ownerVIP, VIP: true, Host: v.Node, VNICType: "normal", Groups: v.Groups}
	var where []any
	for _, f := range v.At {
		at := map[string]any{"subnet_id": f.SubnetID}
		if f.Addr.IsValid() {
			at["ip_address"] = f.Addr
		}
		where = append(where, at)
	}
	if err := c.takeMAC(p, false); err != nil {
		return nil, err
	}
	if err := c.allocate(p, attr.Values{"fixed_ips": where}); err != nil {
		return nil, err
	}
	if err := c.ports.TxCreate(c.tx, p); err != nil {
		return nil, err
	}
	return p, c.serveDHCP(n)
}

// MoveVIP binds a load balancer's port to another node.
func (s *Service) MoveVIP(ctx context.Context, port, node string, also func(tx *store.Tx) error) error {
	return s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, port)
		if err != nil {
			return err
		}
		now := *p
		if now.Host = node; p.Host != node {
			now.Status = statusDown
		}
		if err := c.port.put(c, p, &now); err != nil {
			return err
		}
		return also(c.tx)
	})
}

// GiveVIP deletes a load balancer's port or, when keep, only unbinds it. Absent is fine.
func (s *Service) GiveVIP(ctx context.Context, port string, keep bool, also func(tx *store.Tx) error) error {
	return s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, port)
		switch {
		case errs.Is(err, errs.NotFound):
			err = nil
		case err != nil:
		case keep:
			now := *p
			now.DeviceID, now.DeviceOwner, now.VIP, now.Host, now.Status = "", "", false, "", statusDown
			err = c.port.put(c, p, &now)
		default:
			err = c.port.drop(c, port)
		}
		if err != nil {
			return err
		}
		return also(c.tx)
	})
}

// Plug tells how a port is plugged into a namespace of its node; false: there is no such port.
func (s *Service) Plug(port string) (nodeapi.ContainerPort, bool) {
	p, err := s.ports.Get(port)
	if err != nil {
		return nodeapi.ContainerPort{}, false
	}
	out := nodeapi.ContainerPort{ID: p.ID, MAC: p.MAC}
	if n, err := s.networks.Get(p.NetworkID); err == nil {
		out.MTU = (&call{Service: s, members: s.recent()}).carried(n)
	}
	via := map[bool]bool{}
	for _, f := range p.FixedIPs {
		sub, err := s.subnets.Get(f.SubnetID)
		if err != nil {
			continue
		}
		out.Addrs = append(out.Addrs, mask(f.Addr, sub))
		out.Routes = append(out.Routes, sub.Routes...)
		if g := sub.Gateway; g.IsValid() && !via[g.Is4()] {
			via[g.Is4()] = true
			out.Gateways = append(out.Gateways, g)
		}
	}
	return out, true
}

// VisibleSubnet gives a subnet of a network that the caller may plug something into.
func (s *Service) VisibleSubnet(c *policy.Credentials, id string) (*nodeapi.Subnet, string, error) {
	sub, err := s.subnets.Get(id)
	if err != nil || s.reachable(c, sub.NetworkID) != nil {
		return nil, "", s.subnet.notFound(id)
	}
	return &nodeapi.Subnet{ID: sub.ID, CIDR: sub.CIDR, Gateway: sub.Gateway}, sub.NetworkID, nil
}

// VisibleSubnets are those of such a network, the oldest first.
func (s *Service) VisibleSubnets(c *policy.Credentials, network string) ([]nodeapi.Subnet, error) {
	if err := s.reachable(c, network); err != nil {
		return nil, err
	}
	var out []nodeapi.Subnet
	for _, sub := range s.subnets.By("network", network) {
		out = append(out, nodeapi.Subnet{ID: sub.ID, CIDR: sub.CIDR, Gateway: sub.Gateway})
	}
	return out, nil
}

func (s *Service) reachable(c *policy.Credentials, network string) error {
	n, err := s.networks.Get(network)
	if err != nil || !s.maySee(c, n) && !n.External {
		return s.network.notFound(network)
	}
	return nil
}

// UsableGroup tells whether the caller may give ports the security group.
func (s *Service) UsableGroup(c *policy.Credentials, id string) error {
	g, err := s.groups.Get(id)
	if err != nil || !c.Admin() && g.ProjectID != c.ProjectID && !s.sharedWith(c.ProjectID, id) {
		return s.group.notFound(id)
	}
	return nil
}

// NodeAddresses are what nodes have for themselves on external networks, in order.
func (s *Service) NodeAddresses() (out []netip.Addr) {
	for _, p := range s.ports.By("owner", ownerHost) {
		for _, f := range p.FixedIPs {
			out = append(out, f.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
