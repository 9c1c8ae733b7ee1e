package region

import (
	"context"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/securitygroup"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/rest"
)

// groupsForCompute shows compute's older API the network service's security groups.
type groupsForCompute struct{ *network.Service }

func groupForCompute(g *network.ServerGroup, err error) (*securitygroup.Group, error) {
	if err != nil {
		return nil, err
	}
	out := &securitygroup.Group{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID}
	for _, r := range g.Rules {
		out.Rules = append(out.Rules, securitygroup.Rule(r))
	}
	return out, nil
}

func groupListForCompute(list []network.ServerGroup, err error) ([]securitygroup.Group, error) {
	if err != nil {
		return nil, err
	}
	out := make([]securitygroup.Group, len(list))
	for i := range list {
		g, err := groupForCompute(&list[i], nil)
		if err != nil {
			return nil, err
		}
		out[i] = *g
	}
	return out, nil
}

func (s groupsForCompute) Describe(ctx context.Context, ids []string) ([]securitygroup.Group, error) {
	return groupListForCompute(s.Service.Describe(ctx, ids))
}

func (s groupsForCompute) List(ctx context.Context, r *rest.Request, all bool) ([]securitygroup.Group, error) {
	return groupListForCompute(s.ListGroups(ctx, r, all))
}

func (s groupsForCompute) Get(ctx context.Context, r *rest.Request, id string) (*securitygroup.Group, error) {
	return groupForCompute(s.GetGroup(ctx, r, id))
}

func (s groupsForCompute) Create(ctx context.Context, r *rest.Request, name, description string) (*securitygroup.Group, error) {
	return groupForCompute(s.CreateGroup(ctx, r, name, description))
}

func (s groupsForCompute) Update(ctx context.Context, r *rest.Request, id, name, description string) (*securitygroup.Group, error) {
	return groupForCompute(s.UpdateGroup(ctx, r, id, name, description))
}

func (s groupsForCompute) Delete(ctx context.Context, r *rest.Request, id string) error {
	return s.DeleteGroup(ctx, r, id)
}

func (s groupsForCompute) AddRule(ctx context.Context, r *rest.Request, n securitygroup.NewRule) (*securitygroup.Rule, error) {
	given := map[string]any{"security_group_id": n.Group, "direction": "ingress", "ethertype": "IPv4"}
	if strings.Contains(n.CIDR, ":") {
		given["ethertype"] = "IPv6"
	}
	for key, v := range map[string]string{"protocol": n.Protocol, "remote_ip_prefix": n.CIDR, "remote_group_id": n.RemoteGroup} {
		if v != "" {
			given[key] = v
		}
	}
	for key, v := range map[string]*int{"port_range_min": n.FromPort, "port_range_max": n.ToPort} {
		if v != nil {
			given[key] = float64(*v) // as decoded JSON
		}
	}
	v, err := s.CreateRule(ctx, r, given)
	if err != nil {
		return nil, err
	}
	rule := securitygroup.Rule(*v)
	return &rule, nil
}

func (s groupsForCompute) DropRule(ctx context.Context, r *rest.Request, id string) error {
	return s.DeleteRule(ctx, r, id)
}
