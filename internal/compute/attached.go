package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) attachedRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/servers/{id}/ips", Policy: "os_compute_api:ips:index", Handle: s.listAddresses},
		{Method: "GET", Path: "/servers/{id}/ips/{label}", Policy: "os_compute_api:ips:show", Handle: s.showAddresses},
		{Method: "GET", Path: "/servers/{id}/os-interface", Policy: "os_compute_api:os-attach-interfaces:list", Handle: s.listInterfaces},
		{Method: "GET", Path: "/servers/{id}/os-interface/{port}", Policy: "os_compute_api:os-attach-interfaces:show", Handle: s.showInterface},
	}
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
				view["tag"] = wire.OrNull(n.Tag)
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
