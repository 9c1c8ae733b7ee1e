package network

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// defaultZone is where a node is that names no zone.
const defaultZone = "nova"

type zone struct {
	name  string
	alive bool
}

func (s *Service) hosts() []Host {
	if s.Nodes == nil {
		return nil
	}
	return s.Nodes.Hosts()
}

// zones are the zones of the nodes; the default one even when there is no node yet.
func (s *Service) zones() []zone {
	out := []zone{}
	for _, h := range s.hosts() {
		name := h.Zone
		if name == "" {
			name = defaultZone
		}
		if i := slices.IndexFunc(out, func(z zone) bool { return z.name == name }); i >= 0 {
			out[i].alive = out[i].alive || h.Alive
			continue
		}
		out = append(out, zone{name, h.Alive})
	}
	if len(out) == 0 {
		out = append(out, zone{defaultZone, true})
	}
	return out
}

func (s *Service) agentRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/agents", Policy: "get_agent", Handle: s.listAgents},
		{Method: "GET", Path: "/agents/{id}", Policy: "get_agent", Handle: s.showAgent},
		{Method: "GET", Path: "/availability_zones", Policy: "get_availability_zone", Handle: s.listZones},
	}
}

// agents shows each node as the one agent that it is.
func (s *Service) agents() []map[string]any {
	out := []map[string]any{}
	for _, h := range s.hosts() {
		z := h.Zone
		if z == "" {
			z = defaultZone
		}
		when := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
		out = append(out, map[string]any{"id": agentID(h), "binary": "strata", "host": h.Name, "topic": "N/A", "agent_type": "Strata node agent",
			"availability_zone": z, "admin_state_up": true, "alive": h.Alive, "created_at": when(h.Started), "started_at": when(h.Started),
			"heartbeat_timestamp": when(h.Seen), "description": nil, "configurations": map[string]any{}, "resources_synced": nil})
	}
	return out
}

func agentID(h Host) string {
	if _, err := uuid.Parse(h.ID); err == nil {
		return h.ID
	}
	return deviceUUID("agent " + h.Name)
}

func (s *Service) listAgents(_ context.Context, r *rest.Request) (*rest.Response, error) {
	out := []map[string]any{}
	// Who may not see agents sees none (upstream filters lists by policy).
	agents := s.agents()
	if !r.Allows("get_agent", r.Own()) {
		agents = nil
	}
	for _, a := range agents {
		ok := true
		for k, wanted := range r.Query() {
			if !slices.Contains(reserved, k) {
				v, known := a[k]
				ok = ok && known && match(v, wanted)
			}
		}
		if ok {
			out = append(out, rest.Fields(a, r.Query()["fields"]))
		}
	}
	return rest.JSON(http.StatusOK, map[string]any{"agents": out}), nil
}

func (s *Service) showAgent(_ context.Context, r *rest.Request) (*rest.Response, error) {
	for _, a := range s.agents() {
		if a["id"] == r.Path("id") && r.Allows("get_agent", r.Own()) {
			return rest.JSON(http.StatusOK, map[string]any{"agent": rest.Fields(a, r.Query()["fields"])}), nil
		}
	}
	return nil, errs.Coded(errs.NotFound, "AgentNotFound", "Agent %s could not be found.", r.Path("id"))
}

func (s *Service) listZones(context.Context, *rest.Request) (*rest.Response, error) {
	out := []any{}
	for _, z := range s.zones() {
		state := "unavailable"
		if z.alive {
			state = "available"
		}
		for _, kind := range []string{"network", "router"} {
			out = append(out, map[string]string{"name": z.name, "resource": kind, "state": state})
		}
	}
	return rest.JSON(http.StatusOK, map[string]any{"availability_zones": out}), nil
}

func (s *Service) availabilityRoutes() []rest.Route {
	const rule = "get_network_ip_availability"
	return []rest.Route{
		{Method: "GET", Path: "/network-ip-availabilities", Policy: rule, Handle: s.listAvailability},
		{Method: "GET", Path: "/network-ip-availabilities/{id}", Policy: rule, Handle: s.showAvailability},
	}
}

// availability counts the addresses of a network (neutron/db/network_ip_availability_db.py).
func (c *call) availability(n *Network, version int) map[string]any {
	subnets, total, used := []map[string]any{}, 0.0, 0
	for _, s := range by(c, c.subnets, "network", n.ID) {
		if version != 0 && s.version() != version {
			continue
		}
		size, taken := 0.0, 0
		for _, p := range s.Pools {
			size += p.size()
		}
		for _, p := range c.ports.By("subnet", s.ID) {
			for _, f := range p.FixedIPs {
				if f.SubnetID == s.ID {
					taken++
				}
			}
		}
		total, used = total+size, used+taken
		subnets = append(subnets, map[string]any{"subnet_id": s.ID, "subnet_name": s.Name, "cidr": s.CIDR.String(), "ip_version": s.version(),
			"total_ips": count(size), "used_ips": taken})
	}
	return map[string]any{"network_id": n.ID, "network_name": n.Name, "tenant_id": n.ProjectID, "project_id": n.ProjectID,
		"subnet_ip_availability": subnets, "total_ips": count(total), "used_ips": used}
}

// count writes a number of addresses as the integer that clients expect, however large.
func count(n float64) json.Number { return json.Number(strconv.FormatFloat(n, 'f', 0, 64)) }

func (s *Service) listAvailability(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, q, out := s.look(r), r.Query(), []map[string]any{}
	version := 0
	switch q.Get("ip_version") {
	case "4":
		version = 4
	case "6":
		version = 6
	}
	for _, n := range s.networks.All() {
		if !c.allows("get_network_ip_availability", policy.Target{"project_id": n.ProjectID}) {
			continue
		}
		v, ok := c.availability(n, version), true
		for _, k := range []string{"network_id", "network_name", "tenant_id", "project_id"} {
			ok = ok && (len(q[k]) == 0 || match(v[k], q[k]))
		}
		if ok {
			out = append(out, rest.Fields(v, q["fields"]))
		}
	}
	return rest.JSON(http.StatusOK, map[string]any{"network_ip_availabilities": out}), nil
}

func (s *Service) showAvailability(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c := s.look(r)
	n, err := s.network.find(c, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, map[string]any{"network_ip_availability": c.availability(n, 0)}), nil
}

// mask writes the prefix of an address on its subnet.
func mask(a netip.Addr, s *Subnet) netip.Prefix { return netip.PrefixFrom(a, s.CIDR.Bits()) }
