package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) attachedRoutes() []rest.Route {
	routes := []rest.Route{
		{Method: "GET", Path: "/servers/{id}/ips", Policy: "os_compute_api:ips:index", Handle: s.listAddresses},
		{Method: "GET", Path: "/servers/{id}/ips/{label}", Policy: "os_compute_api:ips:show", Handle: s.showAddresses},
		{Method: "GET", Path: "/servers/{id}/os-interface", Policy: "os_compute_api:os-attach-interfaces:list", Handle: s.listInterfaces},
		{Method: "GET", Path: "/servers/{id}/os-interface/{port}", Policy: "os_compute_api:os-attach-interfaces:show", Handle: s.showInterface},
	}
	if s.SecurityGroups != nil {
		routes = append(routes, rest.Route{Method: "GET", Path: "/servers/{id}/os-security-groups", Policy: "os_compute_api:os-security-groups:list", Handle: s.listGroupsOf})
	}
	return routes
}

// plainAddresses are a server's addresses without the extensions of its own view.
func plainAddresses(ports []Port) map[string][]map[string]any {
	out := map[string][]map[string]any{}
	for label, list := range addresses(ports) {
		for _, a := range list {
			out[label] = append(out[label], map[string]any{"addr": a["addr"], "version": a["version"]})
		}
	}
	return out
}

func (s *Service) listAddresses(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"addresses": plainAddresses(s.Networks.Ports(v.ID))}), nil
}

func (s *Service) showAddresses(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	label := r.Path("label")
	list, ok := plainAddresses(s.Networks.Ports(v.ID))[label]
	if !ok {
		return nil, errs.NotFoundf("Instance is not a member of specified network")
	}
	return rest.JSON(200, map[string]any{label: list}), nil
}

func (s *Service) interfaceView(r *rest.Request, v *Server, p Port) map[string]any {
	ips := []any{}
	for _, ip := range p.FixedIPs {
		ips = append(ips, map[string]string{"subnet_id": ip.SubnetID, "ip_address": ip.Addr.String()})
	}
	view := map[string]any{"port_id": p.ID, "net_id": p.NetworkID, "mac_addr": p.MAC, "port_state": p.Status, "fixed_ips": ips}
	if r.AtLeast(2, 70) {
		view["tag"] = nil
		for _, n := range v.NICs {
			if n.PortID == p.ID {
				view["tag"] = nilText(n.Tag)
			}
		}
	}
	return view
}

func (s *Service) listInterfaces(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, p := range s.Networks.Ports(v.ID) {
		views = append(views, s.interfaceView(r, v, p))
	}
	return rest.JSON(200, map[string]any{"interfaceAttachments": views}), nil
}

func (s *Service) showInterface(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	for _, p := range s.Networks.Ports(v.ID) {
		if p.ID == r.Path("port") {
			return rest.JSON(200, map[string]any{"interfaceAttachment": s.interfaceView(r, v, p)}), nil
		}
	}
	return nil, errs.NotFoundf("Instance %s does not have a port with id %s", v.ID, r.Path("port"))
}

// listGroupsOf gives the security groups of the server's ports.
func (s *Service) listGroupsOf(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, p := range s.Networks.Ports(v.ID) {
		ids = append(ids, p.GroupIDs...)
	}
	list, err := s.SecurityGroups.Describe(ctx, unique(ids))
	if err != nil {
		return nil, err
	}
	views := make([]any, len(list))
	for i, g := range list {
		views[i] = securityGroupView(g)
	}
	return rest.JSON(200, map[string]any{"security_groups": views}), nil
}

// securityGroupView is a group as nova-network had it; clients still read it so.
func securityGroupView(g SecurityGroup) map[string]any {
	rules := []any{}
	for _, x := range g.Rules {
		v := map[string]any{"id": x.ID, "parent_group_id": g.ID, "ip_protocol": nilText(x.Protocol), "from_port": x.FromPort, "to_port": x.ToPort,
			"group": map[string]any{}, "ip_range": map[string]any{}}
		switch {
		case x.RemoteGroup != "":
			v["group"] = map[string]any{"name": x.RemoteGroup, "tenant_id": x.RemoteGroupOwner}
		case x.CIDR != "":
			v["ip_range"] = map[string]any{"cidr": x.CIDR}
		}
		rules = append(rules, v)
	}
	return map[string]any{"id": g.ID, "name": g.Name, "description": g.Description, "tenant_id": g.ProjectID, "rules": rules}
}
