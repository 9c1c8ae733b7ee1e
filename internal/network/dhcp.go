package network

import (
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// dhcpPort finds the port from which a network's DHCP, DNS and metadata are served.
func (c *call) dhcpPort(network string) *Port {
	for _, p := range by(c, c.ports, "device", dhcpDevice(network)) {
		if p.DeviceOwner == ownerDHCP && p.NetworkID == network {
			return p
		}
	}
	return nil
}

// dhcpDevice is the device_id of a network's DHCP port, in upstream's form.
func dhcpDevice(network string) string { return "dhcp" + deviceUUID("strata") + "-" + network }

// serveDHCP makes the network's DHCP port, with an address on every subnet that
// has DHCP. It comes with the network's first port, as it does upstream where an
// agent is scheduled then, and in the same transaction.
func (c *call) serveDHCP(n *Network) error {
	if c.dhcpPort(n.ID) != nil {
		return nil
	}
	return c.makeDHCP(n, by(c, c.subnets, "network", n.ID))
}

func (c *call) makeDHCP(n *Network, subnets []*Subnet) error {
	p := &Port{Base: Base{ID: uuid.NewString(), ProjectID: n.ProjectID, Created: c.now, Updated: c.now}, NetworkID: n.ID,
		DeviceID: dhcpDevice(n.ID), DeviceOwner: ownerDHCP, AdminUp: true, Status: statusActive, VNICType: "normal"}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	for _, s := range subnets {
		if !s.DHCP {
			continue
		}
		// A full subnet is no reason to refuse the port that filled it.
		if err := c.take(p, s, netip.Addr{}); err != nil && !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	if len(p.FixedIPs) == 0 {
		return nil
	}
	return c.ports.TxCreate(c.tx, p)
}

// subnetAdded gives the network's ports what a new subnet, which is not yet
// written, means for them: DHCP service and SLAAC addresses.
func (c *call) subnetAdded(n *Network, s *Subnet) error {
	if err := c.network.touch(c, n.ID); err != nil {
		return err
	}
	served := c.dhcpPort(n.ID)
	plain := false
	for _, p := range by(c, c.ports, "network", n.ID) {
		plain = plain || !serviceOwned(p.DeviceOwner)
		if s.DHCP && served != nil && p.ID == served.ID || s.auto() && !legOfRouter(p.DeviceOwner) && p.DeviceOwner != ownerDHCP {
			if err := c.gain(p, s); err != nil {
				return err
			}
		}
	}
	if s.DHCP && served == nil && plain {
		return c.makeDHCP(n, []*Subnet{s})
	}
	return nil
}

// gain gives a port an address on a subnet besides those it has.
func (c *call) gain(p *Port, s *Subnet) error {
	now := *p
	now.FixedIPs = slices.Clone(p.FixedIPs)
	if err := c.take(&now, s, netip.Addr{}); err != nil {
		return err
	}
	return c.port.put(c, p, &now)
}

// dhcpSwitched follows enable_dhcp of a subnet.
func (c *call) dhcpSwitched(s *Subnet) error {
	p := c.dhcpPort(s.NetworkID)
	if !s.DHCP {
		if p != nil {
			return c.loseSubnet(p, s.ID)
		}
		return nil
	}
	if p != nil {
		return c.gain(p, s)
	}
	n, err := get(c, c.networks, s.NetworkID)
	if err != nil {
		return err
	}
	for _, o := range by(c, c.ports, "network", n.ID) {
		if !serviceOwned(o.DeviceOwner) {
			return c.makeDHCP(n, []*Subnet{s})
		}
	}
	return nil
}

// loseSubnet takes the port's addresses on a subnet away; a port of ours without any goes.
func (c *call) loseSubnet(p *Port, subnet string) error {
	now := *p
	now.FixedIPs = slices.DeleteFunc(slices.Clone(p.FixedIPs), func(f nodeapi.FixedIP) bool { return f.SubnetID == subnet })
	if len(now.FixedIPs) == 0 && (p.DeviceOwner == ownerDHCP || p.DeviceOwner == ownerHost) {
		return c.ports.TxDelete(c.tx, p.ID)
	}
	return c.port.put(c, p, &now)
}
