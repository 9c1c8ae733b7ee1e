package loadbalancer

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// provider is this one's name. Clients name upstream's by default, so that these are
// names of it too.
const provider = "strata"

func providers() map[string]string {
	const also = "Another name of strata that clients use by default."
	return map[string]string{provider: "Connections are distributed by the nodes' kernels (TCP and UDP).", "amphora": also, "octavia": also}
}

func (s *Service) createBalancer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	raw, err := body(r, "loadbalancer")
	if err != nil {
		return nil, err
	}
	a := balancerAsk{LoadBalancer: LoadBalancer{Meta: Meta{AdminUp: true}}, project: r.Creds.ProjectID}
	if err := read(balancerFields(), raw, inPost, &a); err != nil {
		return nil, err
	}
	if a.project == "" {
		return nil, invalid("Missing project ID in request where one is required. An administrator should check the keystone settings in the Octavia configuration.")
	}
	if err := judge(r, r.Route.Policy, a.project); err != nil {
		return nil, err
	}
	if err := s.judgeVIP(ctx, r, &a); err != nil {
		return nil, err
	}
	if err := s.checkAsk(&a); err != nil {
		return nil, err
	}
	lb, err := s.newBalancer(ctx, r.Creds, &a)
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, view{"loadbalancer": s.stateOf(lb).view(true)}), nil
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

// checkAsk refuses what there is not.
func (s *Service) checkAsk(a *balancerAsk) error {
	switch {
	case a.flavor != "":
		return invalid("Invalid flavor_id.")
	case a.zone != "":
		return invalid("Invalid availability zone.")
	}
	if a.provider == "" {
		a.provider = provider
	}
	if _, ok := providers()[a.provider]; !ok {
		return coded(errs.Invalid, "Provider '%s' is not enabled.", a.provider)
	}
	return nil
}

// newBalancer writes a load balancer with its children, and its VIP's port.
func (s *Service) newBalancer(ctx context.Context, c *policy.Credentials, a *balancerAsk) (*LoadBalancer, error) {
	var out *LoadBalancer
	base := a.LoadBalancer
	base.ID, base.ProjectID, base.Provider = newID(), a.project, a.provider
	if base.VIP.PortID == "" {
		base.VIP.PortID = newID()
	}
	base.Node = s.choose(&base, "")
	v := VIPSpec{PortID: base.VIP.PortID, NetworkID: base.VIP.NetworkID, SubnetID: base.VIP.SubnetID, Address: base.VIP.Address, Existing: base.VIP.Kept,
		LoadBalancer: base.ID, Name: "octavia-lb-" + base.ID, ProjectID: base.ProjectID, Node: base.Node, Groups: base.VIP.Groups}
	err := s.Networks.TakeVIP(ctx, v, func(tx *store.Tx, address string) error {
		lb := base // the function may run again
		lb.VIP.Address = address
		e := &edit{s: s, tx: tx, lb: &lb, now: s.now()}
		s.advance(&lb)
		lb.Meta.Created, lb.Meta.Born = e.now, lb.Gen
		if err := s.fits(tx, lb.ProjectID, "loadbalancer", s.lbs.TxCount(tx, "project", lb.ProjectID)+1); err != nil {
			return err
		}
		if err := e.grow(c, a.listeners, a.pools); err != nil {
			return err
		}
		out = &lb
		return s.lbs.TxCreate(tx, &lb)
	})
	return out, err
}

func (s *Service) updateBalancer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	raw, err := body(r, "loadbalancer")
	if err != nil {
		return nil, err
	}
	lb, err = s.change(ctx, lb.ID, func(e *edit) error {
		a := balancerAsk{LoadBalancer: *e.lb}
		if err := read(balancerFields(), raw, inPut, &a); err != nil {
			return err
		}
		gen := e.lb.Gen
		e.lb.Meta = a.Meta
		e.lb.Gen, e.lb.Updated = gen, e.now
		return nil
	})
	if err != nil {
		return nil, s.pending(r.Path("id"), err)
	}
	return rest.JSON(200, view{"loadbalancer": s.stateOf(lb).view(false)}), nil
}

// pending says a Conflict of a load balancer itself in upstream's words.
func (s *Service) pending(id string, err error) error {
	lb, gone := s.lbs.Get(id)
	if gone != nil || !errs.Is(err, errs.Conflict) {
		return err
	}
	return coded(errs.Conflict, "Invalid state %s of loadbalancer resource %s", s.stateOf(lb).provisioning(&lb.Meta), id)
}

// deleteBalancer removes it at once; its node hears of that.
func (s *Service) deleteBalancer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	cascade, _ := truth("cascade", orFalse(r.Query().Get("cascade")))
	err = s.Networks.GiveVIP(ctx, lb.VIP.PortID, lb.VIP.Kept, func(tx *store.Tx) error {
		lb, err := s.lbs.TxGet(tx, lb.ID)
		if err != nil {
			return notFound("Load Balancer", r.Path("id"))
		}
		if len(lb.Listeners)+len(lb.Pools) > 0 && !cascade {
			return invalid("Cannot delete Load Balancer %s - it has children", lb.ID)
		}
		if p := s.stateOf(lb).provisioning(&lb.Meta); p != active && p != failed {
			return coded(errs.Conflict, "Invalid state %s of loadbalancer resource %s", p, lb.ID)
		}
		return s.drop(tx, lb.ID)
	})
	if err != nil {
		return nil, err
	}
	s.forgetTraffic(lb.ID)
	return rest.Empty(204), nil
}

func orFalse(s string) string {
	if s == "" {
		return "false"
	}
	return s
}

// drop removes the records of a load balancer.
func (s *Service) drop(tx *store.Tx, id string) error {
	if err := s.lbs.TxDelete(tx, id); err != nil {
		return err
	}
	if err := s.statuses.TxDelete(tx, id); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

// failover moves a load balancer to another node, if there is one, and has it made anew.
func (s *Service) failover(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	if p := s.stateOf(lb).provisioning(&lb.Meta); p != active && p != failed {
		return nil, coded(errs.Conflict, "Invalid state %s of loadbalancer resource %s", p, lb.ID)
	}
	return rest.Empty(202), s.move(ctx, lb.ID, lb.Node)
}

func (s *Service) showBalancer(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"loadbalancer": rest.Fields(s.stateOf(lb).view(false), r.Query()["fields"])}), nil
}

func (s *Service) showTree(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"statuses": view{"loadbalancer": s.stateOf(lb).tree()}}), nil
}

// balancerOf finds the load balancer of the path and judges the request. As upstream,
// others are told that it is not theirs (403).
func (s *Service) balancerOf(r *rest.Request) (*LoadBalancer, error) {
	lb, err := s.lbs.Get(r.Path("id"))
	if err != nil {
		return nil, notFound("Load Balancer", r.Path("id"))
	}
	return lb, judge(r, r.Route.Policy, lb.ProjectID)
}

func judge(r *rest.Request, rule, project string) error {
	if !r.Allows(rule, policy.Target{"project_id": project, "tenant_id": project}) {
		return forbidden()
	}
	return nil
}
