package loadbalancer

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) createPool(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	raw, err := body(r, "pool")
	if err != nil {
		return nil, err
	}
	a := poolAsk{Pool: Pool{Meta: Meta{AdminUp: true}}}
	if err := read(poolFields(), raw, inPost, &a); err != nil {
		return nil, err
	}
	lb, err := s.balancerOfPool(&a)
	if err != nil {
		return nil, err
	}
	if err := judge(r, r.Route.Policy, lb.ProjectID); err != nil {
		return nil, err
	}
	var made *Pool
	lb, err = s.change(ctx, lb.ID, func(e *edit) (err error) {
		ask := a // the function may run again
		l := e.lb.listener(ask.listener)
		switch {
		case ask.listener != "" && l == nil:
			return notFound("Listener", ask.listener)
		case l != nil && goTogether(l, ask.Protocol) != nil:
			return goTogether(l, ask.Protocol)
		case l != nil && l.PoolID != "":
			return coded(errs.Conflict, "This listener already has a default pool")
		}
		if made, err = e.addPool(r.Creds, &ask); err != nil || l == nil {
			return err
		}
		l.PoolID = made.ID
		e.touch(&l.Meta)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, view{"pool": s.stateOf(lb).poolView(made)}), nil
}

// balancerOfPool is whose a new pool is.
func (s *Service) balancerOfPool(a *poolAsk) (*LoadBalancer, error) {
	if a.balancer == "" && a.listener == "" {
		return nil, invalid("Must provide at least one of: loadbalancer_id, listener_id")
	}
	if a.balancer != "" {
		lb, err := s.lbs.Get(a.balancer)
		if err != nil {
			return nil, notFound("Load Balancer", a.balancer)
		}
		return lb, nil
	}
	if found := s.lbs.By("part", a.listener); len(found) == 1 && found[0].listener(a.listener) != nil {
		return found[0], nil
	}
	return nil, notFound("Listener", a.listener)
}

// addPool makes a pool of what was asked for, with its monitor and members.
func (e *edit) addPool(c *policy.Credentials, a *poolAsk) (*Pool, error) {
	p := a.Pool
	if !slices.Contains(carried, p.Protocol) {
		return nil, unsupported("protocol %s; pools are TCP, HTTPS and UDP", p.Protocol)
	}
	e.born(&p.Meta)
	if err := setPersistence(&p, a.sticky); err != nil {
		return nil, err
	}
	e.lb.Pools = append(e.lb.Pools, &p)
	if a.monitor != nil {
		m := monitorAsk{Monitor: newMonitor(), put: a.monitor}
		if err := read(monitorFields(), a.monitor, inTree, &m); err != nil {
			return nil, err
		}
		if err := e.addMonitor(&p, &m); err != nil {
			return nil, err
		}
	}
	for _, raw := range a.members {
		m := newMember()
		if err := read(memberFields(), raw, inTree, &m); err != nil {
			return nil, err
		}
		if _, err := e.addMember(c, &p, m); err != nil {
			return nil, err
		}
	}
	if len(a.members) > 0 {
		if err := e.fits("member"); err != nil {
			return nil, err
		}
	}
	return &p, e.fits("pool")
}

// setPersistence takes session_persistence; nil: none.
func setPersistence(p *Pool, raw map[string]any) error {
	if raw == nil {
		p.Persistence = nil
		return nil
	}
	var a persistenceAsk
	in := inPost
	if p.Persistence != nil {
		a.kind, in = p.Persistence.Type, inPut
	}
	if err := read(persistenceFields(), raw, in, &a); err != nil {
		return err
	}
	switch {
	case a.kind == "SOURCE_IP" && a.cookie != "":
		return invalid("Field \"cookie_name\" can only be specified with session persistence of type \"APP_COOKIE\".")
	case a.kind != "SOURCE_IP" && p.Protocol == "UDP":
		return invalid("Session persistence of type %s is not supported for UDP/SCTP protocol pools.", a.kind)
	case a.kind != "SOURCE_IP":
		return unsupported("session_persistence of type %s; pools are TCP, HTTPS and UDP", a.kind)
	}
	p.Persistence = &Persistence{Type: a.kind}
	return nil
}

func (s *Service) updatePool(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, poolKind)
	if err != nil {
		return nil, err
	}
	raw, err := body(r, "pool")
	if err != nil {
		return nil, err
	}
	var now *Pool
	lb, err = s.change(ctx, lb.ID, func(e *edit) error {
		if now = e.lb.pool(r.Path("id")); now == nil {
			return notFound("Pool", r.Path("id"))
		}
		a := poolAsk{Pool: *now}
		if err := read(poolFields(), raw, inPut, &a); err != nil {
			return err
		}
		*now = a.Pool
		e.touchPool(now)
		now.Updated = e.now
		if _, given := raw["session_persistence"]; given {
			return setPersistence(now, a.sticky)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"pool": s.stateOf(lb).poolView(now)}), nil
}

func (s *Service) deletePool(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, poolKind)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, lb.ID, func(e *edit) error {
		p := e.lb.pool(r.Path("id"))
		if p == nil {
			return notFound("Pool", r.Path("id"))
		}
		for _, l := range e.lb.users(p.ID) {
			l.PoolID = ""
			e.touch(&l.Meta)
		}
		e.lb.Pools = slices.DeleteFunc(e.lb.Pools, func(x *Pool) bool { return x == p })
		return nil
	})
	return rest.Empty(204), err
}
