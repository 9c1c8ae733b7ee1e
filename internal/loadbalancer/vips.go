package loadbalancer

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// at is where clients reach it, in the order in which they are told.
func (v *VIP) at() []nodeapi.FixedIP {
	return append([]nodeapi.FixedIP{{SubnetID: v.SubnetID, Addr: parsed(v.Address)}}, v.More...)
}

// take keeps what the port has got.
func (v *VIP) take(at []nodeapi.FixedIP) {
	v.SubnetID, v.Address, v.More = at[0].SubnetID, at[0].Addr.String(), at[1:]
}

// speaks tells whether it has an address of a's IP version.
func (v *VIP) speaks(a netip.Addr) bool {
	return slices.ContainsFunc(v.at(), func(f nodeapi.FixedIP) bool { return f.Addr.Is4() == a.Is4() })
}

func (v *VIP) addresses() (out []netip.Addr) {
	for _, f := range v.at() {
		out = append(out, f.Addr)
	}
	return out
}

// texts are its addresses as upstream writes a list.
func (v *VIP) texts() string {
	var out []string
	for _, a := range v.addresses() {
		out = append(out, "'"+a.String()+"'")
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// vipSpec is the port that a load balancer is to have.
func (lb *LoadBalancer) vipSpec() VIPSpec {
	return VIPSpec{PortID: lb.VIP.PortID, NetworkID: lb.VIP.NetworkID, At: lb.VIP.at(), Existing: lb.VIP.Kept,
		LoadBalancer: lb.ID, Name: "octavia-lb-" + lb.ID, ProjectID: lb.ProjectID, Node: lb.Node, Groups: lb.VIP.Groups}
}

// judgeVIP finds the network and the subnet of the VIP in what was asked for
// (octavia/api/v2/controllers/load_balancer.py, _validate_vip_request_object).
func (s *Service) judgeVIP(ctx context.Context, r *rest.Request, a *balancerAsk) error {
	v := &a.VIP
	if len(v.Groups) > 0 {
		if err := judge(r, r.Route.Policy+":vip_sg_ids", a.project); err != nil {
			return err
		}
	}
	var err error
	switch {
	case v.PortID != "":
		err = s.portVIP(ctx, r.Creds, v)
	case v.NetworkID != "":
		err = s.networkVIP(r.Creds, v)
	case v.SubnetID != "":
		var sub *Subnet
		if sub, err = s.Networks.Subnet(r.Creds, v.SubnetID); err == nil {
			v.NetworkID = sub.NetworkID
		} else {
			err = absentPart("Subnet", v.SubnetID)
		}
	default:
		err = coded(errs.Invalid, "Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
	}
	if err != nil {
		return err
	}
	for _, g := range v.Groups {
		if s.Networks.Group(r.Creds, g) != nil {
			return absentPart("Security Group", g)
		}
	}
	return s.moreVIPs(ctx, r.Creds, a)
}

// moreVIPs finds the other subnets that the VIP is on
// (octavia/api/v2/controllers/load_balancer.py, _validate_subnets_share_network_but_no_duplicates).
func (s *Service) moreVIPs(ctx context.Context, c *policy.Credentials, a *balancerAsk) error {
	used := map[string]bool{a.VIP.SubnetID: true}
	for _, raw := range a.more {
		var x additionalAsk
		if err := read(additionalFields(), raw, inPost, &x); err != nil {
			return err
		}
		if used[x.subnet] {
			return invalid("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.")
		}
		used[x.subnet] = true
		sub, err := s.Networks.Subnet(c, x.subnet)
		switch {
		case err != nil:
			return invalid("Subnet %s not found", x.subnet)
		case sub.NetworkID != a.VIP.NetworkID:
			return invalid("All VIP subnets must belong to the same network.")
		}
		a.VIP.More = append(a.VIP.More, nodeapi.FixedIP{SubnetID: x.subnet, Addr: parsed(x.address)})
	}
	if !a.VIP.Kept || len(a.VIP.More) == 0 {
		return nil
	}
	p, err := s.Networks.Port(ctx, c, a.VIP.PortID)
	if err != nil {
		return absentPart("Port", a.VIP.PortID)
	}
	for _, want := range a.VIP.More {
		if !slices.ContainsFunc(p.FixedIPs, func(f nodeapi.FixedIP) bool {
			return f.SubnetID == want.SubnetID && (!want.Addr.IsValid() || f.Addr == want.Addr)
		}) {
			return invalid("No VIP address found on the specified VIP port within the specified subnet.")
		}
	}
	return nil
}

// portVIP is for a port that the user has made.
func (s *Service) portVIP(ctx context.Context, c *policy.Credentials, v *VIP) error {
	p, err := s.Networks.Port(ctx, c, v.PortID)
	if err != nil {
		return absentPart("Port", v.PortID)
	}
	if p.DeviceID != "" {
		return invalid("Port %s is already used by another device %s.", p.ID, p.DeviceID)
	}
	v.Kept, v.NetworkID = true, p.NetworkID
	asked := *v
	for _, f := range p.FixedIPs {
		if asked.SubnetID != "" && f.SubnetID != asked.SubnetID || asked.SubnetID == "" && asked.Address != "" && f.Addr.String() != asked.Address {
			continue
		}
		if asked.SubnetID == "" && asked.Address == "" && len(p.FixedIPs) > 1 {
			return invalid("VIP port's subnet could not be determined. Please specify either a VIP subnet or address.")
		}
		v.SubnetID, v.Address = f.SubnetID, f.Addr.String()
		return nil
	}
	switch {
	case asked.SubnetID != "":
		return invalid("No VIP address found on the specified VIP port within the specified subnet.")
	case asked.Address != "":
		return invalid("Specified VIP address not found on the specified VIP port.")
	}
	return invalid("VIP port's subnet could not be determined. Please specify either a VIP subnet or address.")
}

// networkVIP chooses a subnet of the network, one of IPv4 if there is one.
func (s *Service) networkVIP(c *policy.Credentials, v *VIP) error {
	subs, err := s.Networks.Network(c, v.NetworkID)
	if err != nil {
		return absentPart("Network", v.NetworkID)
	}
	if v.SubnetID != "" {
		if !slices.ContainsFunc(subs, func(x Subnet) bool { return x.ID == v.SubnetID }) {
			return absentPart("Subnet", v.SubnetID)
		}
		return nil
	}
	if len(subs) == 0 {
		return invalid("Supplied network does not contain a subnet.")
	}
	for _, x := range subs {
		if a, err := netip.ParseAddr(v.Address); err == nil {
			if x.CIDR.Contains(a) {
				v.SubnetID = x.ID
				return nil
			}
			continue
		}
		if v.SubnetID == "" || x.CIDR.Addr().Is4() {
			v.SubnetID = x.ID
			if x.CIDR.Addr().Is4() {
				return nil
			}
		}
	}
	if v.SubnetID == "" {
		return invalid("Supplied network does not contain a subnet for VIP address specified.")
	}
	return nil
}
