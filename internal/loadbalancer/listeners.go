package loadbalancer

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) createListener(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	raw, err := body(r, "listener")
	if err != nil {
		return nil, err
	}
	a := newListenerAsk()
	if err := read(listenerFields(), raw, inPost, &a); err != nil {
		return nil, err
	}
	lb, err := s.lbs.Get(a.balancer)
	if err != nil {
		return nil, notFound("Load Balancer", a.balancer)
	}
	if err := judge(r, r.Route.Policy, lb.ProjectID); err != nil {
		return nil, err
	}
	var made *Listener
	lb, err = s.change(ctx, lb.ID, func(e *edit) (err error) {
		ask := a // the function may run again
		if ask.pool != nil {
			p, err := e.plant(r.Creds, ask.pool)
			if err != nil {
				return err
			}
			ask.PoolID = p.ID
		}
		made, err = e.addListener(&ask)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, view{"listener": s.stateOf(lb).listenerView(made)}), nil
}

// addListener makes a listener of what was asked for.
func (e *edit) addListener(a *listenerAsk) (*Listener, error) {
	l := a.Listener
	if !slices.Contains(carried, l.Protocol) {
		return nil, unsupported("protocol %s; listeners are TCP, HTTPS and UDP", l.Protocol)
	}
	e.born(&l.Meta)
	for _, x := range e.lb.Listeners {
		if lower(x.Protocol) == lower(l.Protocol) && x.Port == l.Port {
			return nil, coded(errs.Conflict, "Another Listener on this Load Balancer is already using protocol %s and protocol_port %d", l.Protocol, l.Port)
		}
	}
	if err := e.checkListener(&l); err != nil {
		return nil, err
	}
	e.lb.Listeners = append(e.lb.Listeners, &l)
	return &l, e.fits("listener")
}

// goTogether holds a pool's protocol to its listener's (octavia/common/constants.py,
// VALID_LISTENER_POOL_PROTOCOL_MAP). Some of those that may be there are refused later.
func goTogether(l *Listener, pool string) error {
	if (lower(l.Protocol) == "udp") == (pool == "UDP") && pool != "SCTP" && (l.Protocol != "HTTPS" || pool != "HTTP") {
		return nil
	}
	return invalid("The pool protocol '%s' is invalid while the listener protocol is '%s'.", pool, l.Protocol)
}

// checkListener holds a listener against its pool and the VIP.
func (e *edit) checkListener(l *Listener) error {
	if l.PoolID != "" {
		p := e.lb.pool(l.PoolID)
		if p == nil {
			return notFound("Pool", l.PoolID)
		}
		if err := goTogether(l, p.Protocol); err != nil {
			return err
		}
		if p.Gen != e.lb.Gen {
			e.touch(&p.Meta)
		}
	}
	if len(l.Allowed) > 0 && len(e.lb.VIP.Groups) > 0 {
		return invalid("Allowed CIDRs are not allowed when using custom VIP Security Groups.")
	}
	for _, c := range l.Allowed {
		if p, err := netip.ParsePrefix(c); err != nil || !e.lb.VIP.speaks(p.Addr()) {
			return invalid("CIDR %s IP version incompatible with all VIPs %s IP version.", c, e.lb.VIP.texts())
		}
	}
	return nil
}

func (s *Service) updateListener(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, listenerKind)
	if err != nil {
		return nil, err
	}
	raw, err := body(r, "listener")
	if err != nil {
		return nil, err
	}
	var now *Listener
	lb, err = s.change(ctx, lb.ID, func(e *edit) error {
		if now = e.lb.listener(r.Path("id")); now == nil {
			return notFound("Listener", r.Path("id"))
		}
		a := listenerAsk{Listener: *now}
		if err := read(listenerFields(), raw, inPut, &a); err != nil {
			return err
		}
		*now = a.Listener
		e.touch(&now.Meta)
		now.Updated = e.now
		return e.checkListener(now)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"listener": s.stateOf(lb).listenerView(now)}), nil
}

func (s *Service) deleteListener(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, listenerKind)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, lb.ID, func(e *edit) error {
		l := e.lb.listener(r.Path("id"))
		if l == nil {
			return notFound("Listener", r.Path("id"))
		}
		e.lb.Listeners = slices.DeleteFunc(e.lb.Listeners, func(x *Listener) bool { return x == l })
		return nil
	})
	return rest.Empty(204), err
}
