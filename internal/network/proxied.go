package network

import (
	"cmp"
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/rest"
)

// ServerGroup is a security group as compute's older API shows it: its ingress
// rules, with the remote groups by name.
type ServerGroup struct {
	ID, Name, Description, ProjectID string
	Rules                            []ServerRule
}

// ServerRule is an ingress rule; protocol and ports are empty when it is for any.
type ServerRule struct {
	ID, Protocol                  string
	FromPort, ToPort              *int
	CIDR                          string
	RemoteGroup, RemoteGroupOwner string
}

func (c *call) serverGroup(g *SecurityGroup) ServerGroup {
	out := ServerGroup{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID}
	for _, r := range by(c, c.rules, "group", g.ID) {
		if r.Direction != ingress {
			continue
		}
		if v, ok := c.serverRule(r); ok {
			out.Rules = append(out.Rules, v)
		}
	}
	return out
}

// serverRule is ok unless the rule's remote group has just been deleted.
func (c *call) serverRule(r *SecurityRule) (ServerRule, bool) {
	v := ServerRule{ID: r.ID, Protocol: r.Protocol, FromPort: r.PortMin, ToPort: r.PortMax}
	if r.Remote.IsValid() {
		v.CIDR = r.Remote.String()
	}
	if r.RemoteGroup != "" {
		g, err := get(c, c.groups, r.RemoteGroup)
		if err != nil {
			return v, false
		}
		v.RemoteGroup, v.RemoteGroupOwner = g.Name, g.ProjectID
	}
	return v, true
}

// Describe gives the groups with those ids that exist.
func (s *Service) Describe(_ context.Context, ids []string) ([]ServerGroup, error) {
	c, out := s.look(nil), []ServerGroup{}
	for _, id := range ids {
		g, err := s.groups.Get(id)
		if errs.Is(err, errs.NotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		out = append(out, c.serverGroup(g))
	}
	return out, nil
}

// ListGroups lists the groups of the caller's project, or all that the caller may
// see, by project and name.
func (s *Service) ListGroups(ctx context.Context, r *rest.Request, all bool) ([]ServerGroup, error) {
	var out []ServerGroup
	err := s.do(ctx, r, func(c *call) error {
		out = []ServerGroup{}
		if err := s.ensureDefault(c); err != nil {
			return err
		}
		list := c.groups.TxBy(c.tx, "project", c.project())
		if all {
			list = s.groups.All()
		}
		for _, g := range list {
			if c.allows("get_security_group", c.group.targetOf(c, g)) {
				out = append(out, c.serverGroup(g))
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b ServerGroup) int {
		return cmp.Or(cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, err
}

// GetGroup gives a group that the caller may see.
func (s *Service) GetGroup(_ context.Context, r *rest.Request, id string) (*ServerGroup, error) {
	c := s.look(r)
	g, err := c.group.find(c, id)
	if err != nil {
		return nil, err
	}
	v := c.serverGroup(g)
	return &v, nil
}

// CreateGroup makes a group in the caller's project, as POST /security-groups would.
func (s *Service) CreateGroup(ctx context.Context, r *rest.Request, name, description string) (*ServerGroup, error) {
	given, err := s.group.table.Parse(map[string]any{"name": name, "description": description}, attr.Post)
	if err != nil {
		return nil, err
	}
	var v ServerGroup
	err = s.do(ctx, r, func(c *call) error {
		g, err := c.group.add(c, c.project(), given)
		if err == nil {
			v = c.serverGroup(g)
		}
		return err
	})
	return &v, err
}

// UpdateGroup renames a group.
func (s *Service) UpdateGroup(ctx context.Context, r *rest.Request, id, name, description string) (*ServerGroup, error) {
	var v ServerGroup
	err := s.do(ctx, r, func(c *call) error {
		g, err := c.group.change(c, id, map[string]any{"name": name, "description": description})
		if err == nil {
			v = c.serverGroup(g)
		}
		return err
	})
	return &v, err
}

// DeleteGroup deletes a group that nothing uses.
func (s *Service) DeleteGroup(ctx context.Context, r *rest.Request, id string) error {
	return s.do(ctx, r, func(c *call) error { return c.group.drop(c, id) })
}

// CreateRule adds an ingress rule, as POST /security-group-rules would; given are
// that request's attributes.
func (s *Service) CreateRule(ctx context.Context, r *rest.Request, given map[string]any) (*ServerRule, error) {
	values, err := s.rule.table.Parse(given, attr.Post)
	if err != nil {
		return nil, err
	}
	var v ServerRule
	err = s.do(ctx, r, func(c *call) error {
		rule, err := c.rule.add(c, c.project(), values)
		if err == nil {
			v, _ = c.serverRule(rule)
		}
		return err
	})
	return &v, err
}

// DeleteRule deletes a rule.
func (s *Service) DeleteRule(ctx context.Context, r *rest.Request, id string) error {
	return s.do(ctx, r, func(c *call) error { return c.rule.drop(c, id) })
}
