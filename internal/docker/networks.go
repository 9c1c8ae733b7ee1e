package docker

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
)

// findNetwork finds one by id, name or the beginning of its id.
func findNetwork(nets []Network, ref string) (*Network, error) {
	var named, begin []*Network
	for i, n := range nets {
		switch {
		case n.ID == ref:
			return &nets[i], nil
		case n.Name == ref:
			named = append(named, &nets[i])
		case ref != "" && strings.HasPrefix(n.ID, ref):
			begin = append(begin, &nets[i])
		}
	}
	for _, found := range [][]*Network{named, begin} {
		switch len(found) {
		case 1:
			return found[0], nil
		case 0:
		default:
			return nil, errs.Invalidf("network %s is ambiguous (%d matches found): use an id", ref, len(found))
		}
	}
	return nil, errs.NotFoundf("network %s not found", ref)
}

// endpoints are a container's places on networks, as the network service has them.
func (s *Service) endpoints(c *Container) map[string]any {
	out := map[string]any{}
	views := s.Networks.Ports(c.ConsumerID())
	for _, p := range c.Ports {
		e := map[string]any{"NetworkID": p.NetworkID, "EndpointID": p.ID, "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
			"GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "MacAddress": "", "Aliases": append(slices.Clone(p.Aliases), c.ID[:12]), "Links": nil, "DriverOpts": nil, "IPAMConfig": nil, "DNSNames": c.aliases(p)}
		if i := slices.IndexFunc(views, func(v PortView) bool { return v.ID == p.ID }); i >= 0 {
			addressed(e, devicePort(&views[i]).Addrs, devicePort(&views[i]).Gateways)
			e["MacAddress"] = views[i].MAC
		}
		out[p.Network] = e
	}
	return out
}

func addressed(e map[string]any, addrs []netip.Prefix, gateways []netip.Addr) {
	for _, a := range addrs {
		if a.Addr().Is4() && e["IPAddress"] == "" {
			e["IPAddress"], e["IPPrefixLen"] = a.Addr().String(), a.Bits()
		} else if a.Addr().Is6() && e["GlobalIPv6Address"] == "" {
			e["GlobalIPv6Address"], e["GlobalIPv6PrefixLen"] = a.Addr().String(), a.Bits()
		}
	}
	for _, g := range gateways {
		if g.Is4() {
			e["Gateway"] = g.String()
		} else {
			e["IPv6Gateway"] = g.String()
		}
	}
}

// networkView is a network of the cloud as Docker shows one.
func networkView(n Network) network.Inspect {
	v := network.Inspect{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "swarm", Driver: "strata", Internal: false,
		IPAM: network.IPAM{Driver: "strata", Options: map[string]string{}, Config: []network.IPAMConfig{}}, Containers: map[string]network.EndpointResource{},
		Options: map[string]string{}, Labels: map[string]string{}}
	for _, sub := range n.Subnets {
		c := network.IPAMConfig{Subnet: sub.CIDR.String()}
		if sub.Gateway.IsValid() {
			c.Gateway = sub.Gateway.String()
		}
		v.IPAM.Config = append(v.IPAM.Config, c)
		v.EnableIPv4, v.EnableIPv6 = v.EnableIPv4 || sub.CIDR.Addr().Is4(), v.EnableIPv6 || sub.CIDR.Addr().Is6()
	}
	return v
}

// noneNetwork stands for having none.
func noneNetwork() network.Inspect {
	return network.Inspect{Name: "none", ID: strings.Repeat("0", 64), Created: time.Time{}, Scope: "local", Driver: "null", IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Containers: map[string]network.EndpointResource{}, Options: map[string]string{}, Labels: map[string]string{}}
}

func (s *Service) networkList(w http.ResponseWriter, r *request) error {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"id": true, "name": true, "driver": true, "label": true, "type": true, "scope": true, "dangling": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	dangling, err := f.GetBoolOrDefault("dangling", false)
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	used := map[string]bool{}
	for _, c := range s.of(r.who.ProjectID) {
		for _, p := range c.Ports {
			used[p.NetworkID] = true
		}
	}
	out := []network.Inspect{}
	for _, n := range s.Networks.Visible(r.Context(), r.who) {
		out = append(out, s.madeView(networkView(n)))
	}
	out = append(out, noneNetwork())
	return dockerwire.Answer(w, http.StatusOK, slices.DeleteFunc(out, func(n network.Inspect) bool {
		return !f.Match("id", n.ID) || !f.Match("name", n.Name) || !f.ExactMatch("driver", n.Driver) || !f.ExactMatch("scope", n.Scope) || !f.MatchKVList("label", n.Labels) ||
			f.Contains("type") && !f.ExactMatch("type", map[bool]string{true: "builtin", false: "custom"}[n.Name == "none"]) || f.Contains("dangling") && dangling != (n.Name != "none" && !used[n.ID])
	}))
}

// networkInspect shows the project's own containers on the network.
func (s *Service) networkInspect(w http.ResponseWriter, r *request) error {
	if r.Vars["id"] == "none" {
		return dockerwire.Answer(w, http.StatusOK, noneNetwork())
	}
	n, err := findNetwork(s.Networks.Visible(r.Context(), r.who), r.Vars["id"])
	if err != nil {
		return err
	}
	v := s.madeView(networkView(*n))
	for _, c := range s.of(r.who.ProjectID) {
		for _, p := range s.Networks.Ports(c.ConsumerID()) {
			if p.NetworkID != n.ID {
				continue
			}
			e := network.EndpointResource{Name: c.Name, EndpointID: p.ID, MacAddress: p.MAC}
			for _, a := range devicePort(&p).Addrs {
				if a.Addr().Is4() {
					e.IPv4Address = a.String()
				} else {
					e.IPv6Address = a.String()
				}
			}
			v.Containers[c.ID] = e
		}
	}
	return dockerwire.Answer(w, http.StatusOK, v)
}
