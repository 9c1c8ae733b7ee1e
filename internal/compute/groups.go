package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/securitygroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// members lists the servers of a server group.
func (s *Service) members(group string) []string {
	out := []string{}
	for _, v := range s.servers.By("group", group) {
		out = append(out, v.ID)
	}
	return out
}

// securityGroupRoutes do not exist without a network service that has groups.
func (s *Service) securityGroupRoutes() []rest.Route {
	if s.SecurityGroups == nil {
		return nil
	}
	p := &securitygroup.Proxy{Groups: s.SecurityGroups, OfServer: func(r *rest.Request) ([]string, error) {
		v, err := s.authorized(r)
		if err != nil {
			return nil, err
		}
		var ids []string
		for _, p := range s.Networks.Ports(v.ID) {
			ids = append(ids, p.GroupIDs...)
		}
		return unique(ids), nil
	}}
	return p.Routes()
}

// changeGroup adds a security group to the server's ports or removes it from them.
func (s *Service) changeGroup(key string, add bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		v, err := s.authorized(r)
		if err != nil {
			return nil, err
		}
		var b map[string]struct {
			Name string `json:"name"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		if v.VMState == Building && len(s.Networks.Ports(v.ID)) == 0 {
			return nil, errs.Conflictf("Cannot '%s' instance %s while it is in vm_state building", key, v.ID)
		}
		if err := s.Networks.SetGroups(ctx, r.Creds, v.ID, b[key].Name, add); err != nil {
			return nil, err
		}
		return rest.Empty(202), nil
	}
}
