package network

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
)

// BootstrapOptions say what a new region begins with.
type BootstrapOptions struct {
	AdminProject  string       // owner of the external network
	DemoProject   string       // gets a network of its own and a router; "": none
	PublicCIDR    netip.Prefix // of the external network
	PublicGateway netip.Addr   // the host's side; default: the first address
	PrivateCIDR   netip.Prefix // default 10.0.0.0/24
	DNS           []netip.Addr // for the demo network; none: the node's own resolver
}

// Bootstrap makes the external network `public` and, for the demo project, the
// network `private` with a router, and lets SSH and ICMP into its default group.
// It happens once in the life of a region: what is deleted later stays deleted.
func (s *Service) Bootstrap(ctx context.Context, o BootstrapOptions) error {
	if !o.PrivateCIDR.IsValid() {
		o.PrivateCIDR = netip.MustParsePrefix("10.0.0.0/24")
	}
	if !o.PublicGateway.IsValid() {
		o.PublicGateway = firstHost(o.PublicCIDR)
	}
	return s.do(ctx, nil, func(c *call) error {
		const id = "bootstrap"
		if _, err := get(c, c.marks, id); err == nil {
			return nil
		} else if !errs.Is(err, errs.NotFound) {
			return err
		}
		public, err := c.bootPublic(o)
		if err != nil {
			return fmt.Errorf("making the external network: %w", err)
		}
		if o.DemoProject != "" {
			if err := c.bootDemo(o, public); err != nil {
				return fmt.Errorf("making the demo project's network: %w", err)
			}
		}
		return c.marks.TxCreate(c.tx, &Mark{ID: id})
	})
}

func (c *call) bootPublic(o BootstrapOptions) (*Network, error) {
	n, err := c.network.add(c, o.AdminProject, attr.Values{"name": "public", "router:external": true, "is_default": true,
		"provider:network_type": typeFlat, "provider:physical_network": c.Physical})
	if err != nil {
		return nil, err
	}
	_, err = c.subnet.add(c, o.AdminProject, attr.Values{"name": "public-subnet", "network_id": n.ID, "ip_version": versionOf(o.PublicCIDR.Addr()),
		"cidr": o.PublicCIDR, "gateway_ip": o.PublicGateway, "enable_dhcp": false})
	return n, err
}

func (c *call) bootDemo(o BootstrapOptions, public *Network) error {
	n, err := c.network.add(c, o.DemoProject, attr.Values{"name": "private"})
	if err != nil {
		return err
	}
	dns := []any{}
	for _, a := range o.DNS {
		dns = append(dns, a)
	}
	sub, err := c.subnet.add(c, o.DemoProject, attr.Values{"name": "private-subnet", "network_id": n.ID, "ip_version": 4,
		"cidr": o.PrivateCIDR, "dns_nameservers": dns})
	if err != nil {
		return err
	}
	r, err := c.router.add(c, o.DemoProject, attr.Values{"name": "router", "external_gateway_info": map[string]any{"network_id": public.ID}})
	if err != nil {
		return err
	}
	if _, _, err := c.plugSubnet(r, sub); err != nil {
		return err
	}
	g, err := c.defaultGroup(o.DemoProject)
	if err != nil {
		return err
	}
	ssh := 22
	for _, rule := range []SecurityRule{
		{Direction: ingress, EtherType: ipv4, Protocol: "tcp", PortMin: &ssh, PortMax: &ssh},
		{Direction: ingress, EtherType: ipv4, Protocol: "icmp"},
	} {
		if err := c.writeRule(g, rule); err != nil {
			return err
		}
	}
	return nil
}
