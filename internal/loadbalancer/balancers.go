package loadbalancer

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
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
	err := s.Networks.TakeVIP(ctx, base.vipSpec(), func(tx *store.Tx, at []nodeapi.FixedIP) error {
		lb := base // the function may run again
		lb.VIP.take(at)
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
