package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/rest"
)

// ServerNetwork is a network as compute's older API shows it.
type ServerNetwork struct {
	ID, Name string
	External bool
}

// ServerFloatingIP is a floating IP as compute's older API shows it.
type ServerFloatingIP struct {
	ID             string
	Address, Fixed netip.Addr // Fixed is invalid while it maps to nothing
	Pool           string     // the name of its network, or its id
	PortID, Device string
}

// ListNetworks lists the networks that the caller may see, by name.
func (s *Service) ListNetworks(_ context.Context, r *rest.Request) ([]ServerNetwork, error) {
	c, out := s.look(r), []ServerNetwork{}
	for _, n := range s.networks.All() {
		if c.allows("get_network", c.network.targetOf(c, n)) {
			out = append(out, ServerNetwork{n.ID, n.Name, n.External})
		}
	}
	slices.SortFunc(out, func(a, b ServerNetwork) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// GetNetwork gives a network that the caller may see.
func (s *Service) GetNetwork(_ context.Context, r *rest.Request, id string) (*ServerNetwork, error) {
	c := s.look(r)
	n, err := c.network.find(c, id)
	if err != nil {
		return nil, err
	}
	return &ServerNetwork{n.ID, n.Name, n.External}, nil
}

func (c *call) serverFloating(f *FloatingIP) ServerFloatingIP {
	out := ServerFloatingIP{ID: f.ID, Address: f.Address, Fixed: f.Fixed, Pool: f.NetworkID, PortID: f.PortID}
	if n, err := get(c, c.networks, f.NetworkID); err == nil && n.Name != "" {
		out.Pool = n.Name
	}
	if p, err := get(c, c.ports, f.PortID); f.PortID != "" && err == nil {
		out.Device = p.DeviceID
	}
	return out
}

// ListFloatingIPs lists the floating IPs of the caller's project, by address.
func (s *Service) ListFloatingIPs(_ context.Context, r *rest.Request) ([]ServerFloatingIP, error) {
	c, out := s.look(r), []ServerFloatingIP{}
	for _, f := range s.floating.By("project", c.project()) {
		if c.allows("get_floatingip", c.fip.targetOf(c, f)) {
			out = append(out, c.serverFloating(f))
		}
	}
	slices.SortFunc(out, func(a, b ServerFloatingIP) int { return a.Address.Compare(b.Address) })
	return out, nil
}

// GetFloatingIP gives a floating IP that the caller may see.
func (s *Service) GetFloatingIP(_ context.Context, r *rest.Request, id string) (*ServerFloatingIP, error) {
	c := s.look(r)
	f, err := c.fip.find(c, id)
	if err != nil {
		return nil, err
	}
	v := c.serverFloating(f)
	return &v, nil
}

// FloatingIPNamed gives the floating IP of that address that the caller may see;
// Conflict: there are several.
func (s *Service) FloatingIPNamed(_ context.Context, r *rest.Request, address string) (*ServerFloatingIP, error) {
	c := s.look(r)
	var found *FloatingIP
	for _, f := range s.floating.All() {
		if f.Address.String() != address || !c.allows("get_floatingip", c.fip.targetOf(c, f)) {
			continue
		}
		if found != nil {
			return nil, errs.Conflictf("Multiple floating IPs are found for address %s.", address)
		}
		found = f
	}
	if found == nil {
		return nil, errs.NotFoundf("Floating IP not found for address %s.", address)
	}
	v := c.serverFloating(found)
	return &v, nil
}

// AllocateFloatingIP takes an address of an external network, as POST /floatingips would.
func (s *Service) AllocateFloatingIP(ctx context.Context, r *rest.Request, network string) (*ServerFloatingIP, error) {
	given, err := s.fip.table.Parse(map[string]any{"floating_network_id": network}, attr.Post)
	if err != nil {
		return nil, err
	}
	var v ServerFloatingIP
	err = s.do(ctx, r, func(c *call) error {
		f, err := c.fip.add(c, c.project(), given)
		if err == nil {
			v = c.serverFloating(f)
		}
		return err
	})
	return &v, err
}

// ReleaseFloatingIP gives the address back.
func (s *Service) ReleaseFloatingIP(ctx context.Context, r *rest.Request, id string) error {
	return s.do(ctx, r, func(c *call) error { return c.fip.drop(c, id) })
}

// MapFloatingIP maps a floating IP to an address of a port, or to nothing when the port is "".
func (s *Service) MapFloatingIP(ctx context.Context, r *rest.Request, id, port, fixed string) error {
	given := map[string]any{"port_id": nil}
	if port != "" {
		given["port_id"], given["fixed_ip_address"] = port, fixed
	}
	return s.do(ctx, r, func(c *call) error {
		_, err := c.fip.change(c, id, given)
		return err
	})
}

// AddAddress gives a port one more address of a subnet of its network.
func (s *Service) AddAddress(ctx context.Context, r *rest.Request, port string) error {
	return s.do(ctx, r, func(c *call) error {
		p, err := c.port.find(c, port)
		if err != nil {
			return err
		}
		subnets := c.subnetIDs(p.NetworkID)
		if len(subnets) == 0 {
			return errs.Invalidf("No fixed IP addresses available for network: %s", p.NetworkID)
		}
		slices.Sort(subnets)
		var refused error
		for _, subnet := range subnets {
			if refused = c.readdress(p, append(addressesOf(p, ""), map[string]any{"subnet_id": subnet})); refused == nil {
				return nil
			}
		}
		return refused
	})
}

// DropAddress takes an address from a port. NotFound: it has not got it.
func (s *Service) DropAddress(ctx context.Context, r *rest.Request, port, address string) error {
	return s.do(ctx, r, func(c *call) error {
		p, err := c.port.find(c, port)
		if err != nil {
			return err
		}
		left := addressesOf(p, address)
		if len(left) == len(p.FixedIPs) {
			return errs.NotFoundf("Port %s does not have the address %s.", port, address)
		}
		return c.readdress(p, left)
	})
}

// addressesOf are a port's addresses as a request names them, without one.
func addressesOf(p *Port, without string) []any {
	out := []any{}
	for _, ip := range p.FixedIPs {
		if ip.Addr.String() != without {
			out = append(out, map[string]any{"subnet_id": ip.SubnetID, "ip_address": ip.Addr.String()})
		}
	}
	return out
}

func (c *call) readdress(p *Port, ips []any) error {
	_, err := c.port.change(c, p.ID, map[string]any{"fixed_ips": ips})
	return err
}
