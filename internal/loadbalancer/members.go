package loadbalancer

import (
	"context"
	"net/netip"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// poolOf finds the pool of a path of members and judges the request.
func (s *Service) poolOf(r *rest.Request) (*LoadBalancer, *Pool, error) {
	id := r.Path("pool_id")
	for _, lb := range s.lbs.By("part", id) {
		if p := lb.pool(id); p != nil {
			return lb, p, judge(r, r.Route.Policy, lb.ProjectID)
		}
	}
	return nil, nil, notFound("Pool", id)
}

func (s *Service) createMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, _, err := s.poolOf(r)
	if err != nil {
		return nil, err
	}
	raw, err := body(r, "member")
	if err != nil {
		return nil, err
	}
	ask := newMember()
	if err := read(memberFields(), raw, inPost, &ask); err != nil {
		return nil, err
	}
	var made *Member
	var pool *Pool
	lb, err = s.change(ctx, lb.ID, func(e *edit) (err error) {
		if pool = e.lb.pool(r.Path("pool_id")); pool == nil {
			return notFound("Pool", r.Path("pool_id"))
		}
		if made, err = e.addMember(r.Creds, pool, ask); err != nil {
			return err
		}
		e.touchPool(pool)
		return e.fits("member")
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, view{"member": s.stateOf(lb).memberView(pool, made)}), nil
}

// addMember adds a member to a pool; quota is the caller's business.
func (e *edit) addMember(c *policy.Credentials, p *Pool, m Member) (*Member, error) {
	a := parsed(m.Address)
	if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return nil, badOption(m.Address, "member address")
	}
	if !e.lb.VIP.speaks(a) {
		return nil, unsupported("members of another IP version than the VIP's (%s)", e.lb.VIP.Address)
	}
	if m.SubnetID != "" {
		if _, err := e.s.Networks.Subnet(c, m.SubnetID); err != nil {
			return nil, notFound("Subnet", m.SubnetID)
		}
	}
	for _, x := range p.Members {
		if x.end() == m.end() {
			return nil, coded(errs.Conflict, "Another member on this pool is already using ip %s on protocol_port %d", m.Address, m.Port)
		}
	}
	e.born(&m.Meta)
	p.Members = append(p.Members, &m)
	return &m, nil
}

// end is where a member answers, however it was written.
func (m *Member) end() netip.AddrPort { return netip.AddrPortFrom(parsed(m.Address), uint16(m.Port)) }

// memberOf is partOf for a member, which has its pool in the path.
func (s *Service) memberOf(r *rest.Request) (*LoadBalancer, *Pool, *Member, error) {
	lb, p, err := s.poolOf(r)
	if err != nil {
		return nil, nil, nil, err
	}
	m := find(p.Members, r.Path("id"))
	if m == nil {
		return nil, nil, nil, notFound("Member", r.Path("id"))
	}
	return lb, p, m, nil
}

func (s *Service) showMember(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, p, m, err := s.memberOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"member": rest.Fields(s.stateOf(lb).memberView(p, m), r.Query()["fields"])}), nil
}

// changeMember changes a pool's member in the load balancer's next generation.
func (s *Service) changeMember(ctx context.Context, r *rest.Request, fn func(e *edit, p *Pool, m *Member) error) (*LoadBalancer, error) {
	lb, _, _, err := s.memberOf(r)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, lb.ID, func(e *edit) error {
		p := e.lb.pool(r.Path("pool_id"))
		if p == nil {
			return notFound("Pool", r.Path("pool_id"))
		}
		m := find(p.Members, r.Path("id"))
		if m == nil {
			return notFound("Member", r.Path("id"))
		}
		e.touchPool(p)
		return fn(e, p, m)
	})
}

func (s *Service) updateMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var pool *Pool
	var now *Member
	if _, _, err := s.poolOf(r); err != nil {
		return nil, err
	}
	raw, err := body(r, "member")
	if err != nil {
		return nil, err
	}
	lb, err := s.changeMember(ctx, r, func(e *edit, p *Pool, m *Member) error {
		pool, now = p, m
		return e.alter(m, raw, inPut)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"member": s.stateOf(lb).memberView(pool, now)}), nil
}

func (e *edit) alter(m *Member, raw map[string]any, in mode) error {
	if err := read(memberFields(), raw, in, m); err != nil {
		return err
	}
	e.touch(&m.Meta)
	m.Updated = e.now
	return nil
}

func (s *Service) deleteMember(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.changeMember(ctx, r, func(_ *edit, p *Pool, m *Member) error {
		p.Members = slices.DeleteFunc(p.Members, func(x *Member) bool { return x == m })
		return nil
	})
	return rest.Empty(204), err
}

// batchMembers makes a pool's members those of the request, known by address and port
// (octavia/api/v2/controllers/member.py, MembersController.put). With additive_only
// those that are not named stay.
func (s *Service) batchMembers(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, _, err := s.poolOf(r)
	if err != nil {
		return nil, err
	}
	additive, _ := truth("additive_only", orFalse(r.Query().Get("additive_only")))
	if err := judge(r, "os_load-balancer_api:member:post", lb.ProjectID); err != nil {
		return nil, err
	}
	if !additive {
		if err := judge(r, "os_load-balancer_api:member:delete", lb.ProjectID); err != nil {
			return nil, err
		}
	}
	asks, raws, err := readMembers(r)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, lb.ID, func(e *edit) error {
		p := e.lb.pool(r.Path("pool_id"))
		if p == nil {
			return notFound("Pool", r.Path("pool_id"))
		}
		return e.replaceMembers(r.Creds, p, asks, raws, additive)
	})
	return rest.Empty(202), err
}

func readMembers(r *rest.Request) (asks []Member, raws []map[string]any, err error) {
	outer, err := object(r.Body())
	if err != nil {
		return nil, nil, err
	}
	list, ok := outer["members"].([]any)
	if !ok || len(outer) != 1 {
		return nil, nil, badField("members", outer["members"], "Mandatory field missing.")
	}
	for _, x := range list {
		raw, ok := x.(map[string]any)
		if !ok {
			return nil, nil, badField("members", x, "Expected an object")
		}
		m := newMember()
		if err := read(memberFields(), raw, inPost, &m); err != nil {
			return nil, nil, err
		}
		asks, raws = append(asks, m), append(raws, raw)
	}
	return asks, raws, nil
}

func (e *edit) replaceMembers(c *policy.Credentials, p *Pool, asks []Member, raws []map[string]any, additive bool) error {
	if len(asks) == 0 && (len(p.Members) == 0 || additive) {
		return nil
	}
	named := map[string]bool{}
	for i, a := range asks {
		at := slices.IndexFunc(p.Members, func(m *Member) bool { return m.end() == a.end() })
		if at < 0 {
			m, err := e.addMember(c, p, a)
			if err != nil {
				return err
			}
			named[m.ID] = true
			continue
		}
		m := p.Members[at]
		if named[m.ID] {
			return invalid("Member must be updated only once in the same request.")
		}
		named[m.ID] = true
		subnet := m.SubnetID // which never changes
		// As upstream, what is not given has its default again.
		now := newMember()
		now.Meta.ID, now.Created, now.Born = m.ID, m.Created, m.Born
		*m = now
		if err := e.alter(m, raws[i], inPost); err != nil {
			return err
		}
		m.SubnetID = subnet
	}
	if !additive {
		p.Members = slices.DeleteFunc(p.Members, func(m *Member) bool { return !named[m.ID] })
	}
	e.touchPool(p)
	return e.fits("member")
}
