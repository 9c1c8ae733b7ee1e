package network

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// PortSpec is a port that a server wants.
type PortSpec struct {
	ID, NetworkID, ProjectID string
	FixedIP                  string
	Groups                   []string // security group ids
	Server, Host, Zone       string
	Hostname                 string
	Existing                 bool // made by the user: bind only
}

// ServerPort is what compute sees of a port.
type ServerPort struct {
	ID, NetworkID, NetworkName, ProjectID string
	MAC                                   string
	MTU                                   int
	DeviceID                              string
	Status                                string
	Bound                                 string // host
	FixedIPs                              []nodeapi.FixedIP
	Subnets                               []nodeapi.Subnet
	Floating                              map[netip.Addr]netip.Addr // fixed -> floating
	GroupIDs, GroupNames                  []string
	Created                               time.Time
}

// maySee tells whether credentials reach a record of the project, or one shared with theirs.
func (s *Service) maySee(c *policy.Credentials, n *Network) bool {
	if c.Admin() || c.ProjectID == n.ProjectID {
		return true
	}
	return s.sharedWith(c.ProjectID, n.ID)
}

func (s *Service) sharedWith(project, object string) bool {
	return slices.ContainsFunc(s.rbacs.By("object", object), func(r *RBAC) bool {
		return r.Action == actShared && (r.Target == everyone || r.Target == project)
	})
}

// Usable checks that the caller may plug a server into the network: its own or a
// shared one. Into an external network only an administrator plugs (nova's
// network:attach_external_network).
func (s *Service) Usable(_ context.Context, c *policy.Credentials, networkID string) error {
	n, err := s.networks.Get(networkID)
	if err != nil || !s.maySee(c, n) && !n.External {
		return s.network.notFound(networkID)
	}
	if n.External && !s.maySee(c, n) {
		return errs.Forbiddenf("It is not allowed to create an interface on external network %s", networkID)
	}
	if s.subnets.Count("network", networkID) == 0 {
		return errs.Invalidf("Network %s requires a subnet in order to boot instances on.", networkID)
	}
	return nil
}

// Available lists the networks that a server without a request would get: the
// project's own and the shared ones that have a subnet, without external ones.
func (s *Service) Available(_ context.Context, c *policy.Credentials) ([]string, error) {
	var out []string
	for _, n := range s.networks.All() {
		own := c.ProjectID == n.ProjectID || s.sharedWith(c.ProjectID, n.ID)
		if own && !n.External && s.subnets.Count("network", n.ID) > 0 {
			out = append(out, n.ID)
		}
	}
	return out, nil
}

// Port gives a port that the caller may use.
func (s *Service) Port(_ context.Context, c *policy.Credentials, id string) (*ServerPort, error) {
	p, err := s.ports.Get(id)
	if err != nil || !c.Admin() && c.ProjectID != p.ProjectID {
		return nil, s.port.notFound(id)
	}
	return s.serverPort(p), nil
}

func (s *Service) serverPort(p *Port) *ServerPort {
	c := &call{Service: s, members: s.recent()}
	out := &ServerPort{ID: p.ID, NetworkID: p.NetworkID, ProjectID: p.ProjectID, MAC: p.MAC, DeviceID: p.DeviceID, Status: p.Status,
		Bound: p.Host, FixedIPs: p.FixedIPs, Floating: map[netip.Addr]netip.Addr{}, GroupIDs: p.Groups, Created: p.Created}
	if n, err := s.networks.Get(p.NetworkID); err == nil {
		x := c.nodeNetwork(n)
		out.NetworkName, out.MTU = n.Name, x.MTU
		for _, f := range p.FixedIPs {
			for _, sub := range x.Subnets {
				if sub.ID == f.SubnetID && !slices.ContainsFunc(out.Subnets, func(o nodeapi.Subnet) bool { return o.ID == sub.ID }) {
					out.Subnets = append(out.Subnets, sub)
				}
			}
		}
	}
	for _, f := range s.floating.By("port", p.ID) {
		out.Floating[f.Fixed] = f.Address
	}
	for _, id := range p.Groups {
		if g, err := s.groups.Get(id); err == nil {
			out.GroupNames = append(out.GroupNames, g.Name)
		}
	}
	return out
}

// Ports lists the ports whose device is the server, in order of creation.
func (s *Service) Ports(server string) []ServerPort {
	if server == "" {
		return nil
	}
	ports := s.ports.By("device", server)
	slices.SortStableFunc(ports, func(a, b *Port) int { return a.Created.Compare(b.Created) })
	out := make([]ServerPort, len(ports))
	for i, p := range ports {
		out[i] = *s.serverPort(p)
	}
	return out
}

// Readdressed streams the ids of servers whose ports, fixed or floating addresses
// have changed or gone, until ctx ends.
func (s *Service) Readdressed(ctx context.Context) <-chan string {
	out := make(chan string)
	send := func(device string) {
		select {
		case out <- device:
		case <-ctx.Done():
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		for ev := range s.ports.Watch(ctx) {
			if ev.Old != nil && ev.New != nil && ev.New.DeviceID != "" && !slices.Equal(ev.Old.FixedIPs, ev.New.FixedIPs) {
				send(ev.New.DeviceID)
			}
			if ev.Old != nil && ev.Old.DeviceID != "" && (ev.New == nil || ev.New.DeviceID != ev.Old.DeviceID) {
				send(ev.Old.DeviceID)
			}
		}
	})
	group.Go(func() {
		for ev := range s.floating.Watch(ctx) {
			for _, f := range []*FloatingIP{ev.Old, ev.New} {
				if f == nil || f.PortID == "" {
					continue
				}
				if p, err := s.ports.Get(f.PortID); err == nil && p.DeviceID != "" {
					send(p.DeviceID)
				}
			}
		}
	})
	go func() {
		group.Wait()
		close(out)
	}()
	return out
}

// Groups resolves security groups, by id or name in the project, to ids and names.
func (s *Service) Groups(ctx context.Context, projectID string, wanted []string) (ids, names []string, err error) {
	err = s.do(ctx, nil, func(c *call) error {
		ids, names = nil, nil
		for _, w := range wanted {
			g, err := c.groupNamed(projectID, w)
			if err != nil {
				return err
			}
			ids, names = append(ids, g.ID), append(names, g.Name)
		}
		return nil
	})
	return ids, names, err
}

func (c *call) groupNamed(project, wanted string) (*SecurityGroup, error) {
	if wanted == defaultName {
		return c.defaultGroup(project)
	}
	if g, err := get(c, c.groups, wanted); err == nil && (g.ProjectID == project || c.sharedWith(project, g.ID)) {
		return g, nil
	}
	var found *SecurityGroup
	for _, g := range by(c, c.groups, "project", project) {
		if g.Name != wanted {
			continue
		}
		if found != nil {
			return nil, errs.Conflictf("Multiple security_group matches found for name '%s', use an ID to be more specific.", wanted)
		}
		found = g
	}
	if found == nil {
		return nil, errs.NotFoundf("Security group %s not found for project %s.", wanted, project)
	}
	return found, nil
}

// EnsurePort makes the port if it is absent and binds it to the server and host.
// Repeating it changes nothing.
func (s *Service) EnsurePort(ctx context.Context, spec PortSpec) (*ServerPort, error) {
	err := s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, spec.ID)
		switch {
		case errs.Is(err, errs.NotFound) && !spec.Existing:
			return c.newServerPort(spec)
		case err != nil:
			return err
		case p.DeviceID != "" && p.DeviceID != spec.Server:
			return conflict("PortInUse", "Port %s is still in use.", p.ID)
		}
		return c.bind(p, spec)
	})
	if err != nil {
		return nil, err
	}
	p, err := s.ports.Get(spec.ID)
	if err != nil {
		return nil, err
	}
	return s.serverPort(p), nil
}

func (c *call) bind(p *Port, spec PortSpec) error {
	now := *p
	now.DeviceID, now.DeviceOwner, now.Host = spec.Server, spec.owner(), spec.Host
	if now.DNSName == "" {
		now.DNSName = spec.dnsName()
	}
	if p.Host != spec.Host {
		now.Status = statusDown
	}
	if err := c.port.put(c, p, &now); err != nil {
		return err
	}
	n, err := get(c, c.networks, p.NetworkID)
	if err != nil {
		return err
	}
	return c.serveDHCP(n)
}

func (spec PortSpec) owner() string {
	if spec.Zone == "" {
		return "compute:" + defaultZone
	}
	return "compute:" + spec.Zone
}

// dnsName is the host name when DNS takes it (RFC 1123).
func (spec PortSpec) dnsName() string {
	if v, err := attr.DNS(maxText)(spec.Hostname); err == nil && !strings.Contains(spec.Hostname, ".") {
		return v.(string)
	}
	return ""
}

// newServerPort makes a port with the id that compute chose, against the project's quota.
func (c *call) newServerPort(spec PortSpec) error {
	n, err := get(c, c.networks, spec.NetworkID)
	if err != nil {
		return c.network.notFound(spec.NetworkID)
	}
	limit := c.limits(spec.ProjectID)["port"]
	if limit >= 0 && c.ports.TxCount(c.tx, "project", spec.ProjectID) >= limit {
		return errs.Coded(errs.QuotaExceeded, "OverQuota", "Quota exceeded for resources: ['port'].")
	}
	p := &Port{Base: Base{ID: spec.ID, ProjectID: spec.ProjectID, Created: c.now, Updated: c.now, Revision: 1}, NetworkID: n.ID, AdminUp: true,
		Status: statusDown, PortSecurity: n.PortSecurity, DeviceID: spec.Server, DeviceOwner: spec.owner(), Host: spec.Host, VNICType: "normal", DNSName: spec.dnsName()}
	given := attr.Values{}
	if spec.FixedIP != "" {
		a, err := netip.ParseAddr(spec.FixedIP)
		if err != nil {
			return errs.Invalidf("Fixed IP address %s is not valid.", spec.FixedIP)
		}
		given["fixed_ips"] = []any{map[string]any{"ip_address": a}}
	}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	if err := c.allocate(p, given); err != nil {
		return err
	}
	if p.PortSecurity {
		for _, id := range spec.Groups {
			if _, err := get(c, c.groups, id); err != nil {
				return c.group.notFound(id)
			}
		}
		p.Groups = spec.Groups
		if len(p.Groups) == 0 {
			g, err := c.defaultGroup(spec.ProjectID)
			if err != nil {
				return err
			}
			p.Groups = []string{g.ID}
		}
	}
	if err := c.ports.TxCreate(c.tx, p); err != nil {
		return err
	}
	return c.serveDHCP(n)
}

// ReleasePort deletes a port or, when keep, only unbinds it. Absent is fine.
func (s *Service) ReleasePort(ctx context.Context, id string, keep bool) error {
	return s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, id)
		if errs.Is(err, errs.NotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if !keep {
			return c.port.drop(c, id)
		}
		now := *p
		// The name was the server's (nova/network/neutron.py, _unbind_ports).
		now.DeviceID, now.DeviceOwner, now.Host, now.DNSName, now.Status = "", "", "", "", statusDown
		return c.port.put(c, p, &now)
	})
}

// SetGroups adds or removes a security group, by id or name, on all the server's ports.
func (s *Service) SetGroups(ctx context.Context, who *policy.Credentials, server, group string, add bool) error {
	return s.do(ctx, nil, func(c *call) error {
		g, err := c.groupNamed(who.ProjectID, group)
		if err != nil {
			return err
		}
		found := false
		for _, p := range by(c, c.ports, "device", server) {
			if !p.PortSecurity || add && len(p.FixedIPs) == 0 {
				continue
			}
			has := slices.Contains(p.Groups, g.ID)
			found = found || has
			if has == add {
				continue
			}
			now := *p
			now.Groups = slices.DeleteFunc(slices.Clone(p.Groups), func(id string) bool { return id == g.ID })
			if add {
				now.Groups = append(now.Groups, g.ID)
			}
			if err := c.port.put(c, p, &now); err != nil {
				return err
			}
		}
		if !add && !found {
			return errs.NotFoundf("Security group %s not associated with the instance %s", group, server)
		}
		return nil
	})
}

// AddressHolder tells whether a port that the caller may see has the address, and
// what device the port belongs to, if any.
func (s *Service) AddressHolder(c *policy.Credentials, networkID, address string) (device string, used bool) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "", false
	}
	p, used := s.ports.Unique("address", pair(networkID, a.String()))
	if !used {
		return "", false
	}
	n, err := s.networks.Get(networkID)
	if !c.Admin() && c.ProjectID != p.ProjectID && (err != nil || c.ProjectID != n.ProjectID) {
		return "", false
	}
	return p.DeviceID, true
}

// Reaches tells whether ports of the network can be on the host: on a provider's
// network it needs a device there.
func (s *Service) Reaches(networkID, host string) bool {
	n, err := s.networks.Get(networkID)
	if err != nil || !s.wired(n.Physical) {
		return true
	}
	h := s.known().byID[host]
	return h.reaches(n.Physical)
}

// FreePorts tells how many more ports the project may have; -1: any number.
func (s *Service) FreePorts(projectID string) int {
	c := &call{Service: s}
	limit := c.limits(projectID)["port"]
	if limit < 0 {
		return -1
	}
	return max(0, limit-s.ports.Count("project", projectID))
}
