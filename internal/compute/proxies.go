package compute

import (
	"net/netip"

	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/rest"
)

// proxyRoutes are those of the other services that the cloud has.
func (s *Service) proxyRoutes() []rest.Route {
	var out []rest.Route
	if s.ImageProxy != nil {
		p := &proxy.ImageProxy{Images: s.ImageProxy, MaxMetadata: func(project string) int { return s.quotas.Limits(project)["metadata_items"] }}
		out = append(out, p.Routes()...)
	}
	if s.AddressProxy != nil {
		p := &proxy.AddressProxy{Addresses: s.AddressProxy, Ports: s.portsInPath, Owner: func(r *rest.Request, server string) (string, error) {
			v, err := s.find(r.Creds, server)
			if err != nil {
				return "", err
			}
			return v.ProjectID, nil
		}}
		out = append(out, p.Routes()...)
	}
	if s.VolumeProxy != nil {
		out = append(out, (&proxy.VolumeProxy{Volumes: s.VolumeProxy}).Routes()...)
	}
	return out
}

// portsInPath lists the ports of the path's server, if the caller may act on it, and
// change it although it may be locked.
func (s *Service) portsInPath(r *rest.Request, change bool) ([]proxy.Port, error) {
	v, err := s.authorized(r)
	if err == nil && change {
		err = s.unlocked(r, v)
	}
	if err != nil {
		return nil, err
	}
	var out []proxy.Port
	for _, p := range s.Networks.Ports(v.ID) {
		x := proxy.Port{ID: p.ID, NetworkID: p.NetworkID, FixedIPs: []netip.Addr{}}
		for _, ip := range p.FixedIPs {
			x.FixedIPs = append(x.FixedIPs, ip.Addr)
		}
		out = append(out, x)
	}
	return out, nil
}
