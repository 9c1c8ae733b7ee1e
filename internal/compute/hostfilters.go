package compute

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// hostFilter keeps the hosts that it passes. It goes by upstream's name (nova/scheduler/filters/).
type hostFilter struct {
	name   string
	passes func(host string) bool
}

// hostFilters are all that hold for the server. members counts its group's others.
func (s *Service) hostFilters(v *Server, members map[string]int) []hostFilter {
	return []hostFilter{
		{"requested destination", func(h string) bool { return v.AskedHost == "" || v.AskedHost == h }},
		{"ComputeFilter", s.pool.Takes},
		{"AvailabilityZoneFilter", func(h string) bool { return v.AZ == "" || s.pool.Zone(h) == v.AZ }},
		{"AggregateInstanceExtraSpecsFilter", func(h string) bool { return specsMatch(v.Flavor.ExtraSpecs, s.pool.Metadata(h)) }},
		{"AggregateMultiTenancyIsolation", func(h string) bool { return takesProject(s.pool.Metadata(h), v.ProjectID) }},
		{"SameHostFilter", func(h string) bool { return s.onSameHost(v, h) }},
		{"DifferentHostFilter", func(h string) bool { return !slices.ContainsFunc(hintList(v.Hints["different_host"]), s.runsOn(h)) }},
		{"SimpleCIDRAffinityFilter", func(h string) bool { return s.near(v, h) }},
		{"PhysicalNetworkFilter", func(h string) bool { return s.onNetworks(v, h) }},
		{"ServerGroupFilter", func(h string) bool { return s.groupAllows(v, members, h) }},
	}
}

const specsScope = "aggregate_instance_extra_specs:"

// specsMatch compares the flavor's specs of the scope with the metadata of the
// host's aggregates (nova/scheduler/filters/aggregate_instance_extra_specs.py).
func specsMatch(specs map[string]string, metadata map[string][]string) bool {
	for key, want := range specs {
		if name, ok := strings.CutPrefix(key, specsScope); ok && !slices.ContainsFunc(metadata[name], func(has string) bool { return specMatches(has, want) }) {
			return false
		}
	}
	return true
}

// specMatches applies the operator that a spec begins with
// (nova/scheduler/filters/extra_specs_ops.py); without one the texts are equal.
func specMatches(has, want string) bool {
	words := strings.Fields(want)
	if len(words) == 0 {
		return has == want
	}
	rest := words[1:]
	switch op := words[0]; op {
	case "<in>":
		return len(rest) > 0 && strings.Contains(has, rest[0])
	case "<all-in>":
		return !slices.ContainsFunc(rest, func(w string) bool { return !strings.Contains(has, w) })
	case "<or>":
		return slices.Contains(slices.DeleteFunc(slices.Clone(rest), func(w string) bool { return w == "<or>" }), has)
	case "s==", "s!=", "s<", "s<=", "s>", "s>=":
		return len(rest) > 0 && ordered(op[1:], strings.Compare(has, rest[0]))
	case "=", "==", "!=", ">=", "<=":
		return len(rest) > 0 && numbersMatch(op, has, rest[0])
	}
	return has == want
}

// numbersMatch compares as numbers; "=" is upstream's older way to say at least.
func numbersMatch(op, has, want string) bool {
	a, errA := strconv.ParseFloat(has, 64)
	b, errB := strconv.ParseFloat(want, 64)
	if errA != nil || errB != nil {
		return false
	}
	if op == "=" {
		op = ">="
	}
	switch {
	case a < b:
		return ordered(op, -1)
	case a > b:
		return ordered(op, 1)
	}
	return ordered(op, 0)
}

func ordered(op string, sign int) bool {
	switch op {
	case "==":
		return sign == 0
	case "!=":
		return sign != 0
	case "<":
		return sign < 0
	case "<=":
		return sign <= 0
	case ">":
		return sign > 0
	}
	return sign >= 0
}

// takesProject keeps hosts that an aggregate reserves for other projects out
// (nova/scheduler/filters/aggregate_multitenancy_isolation.py).
func takesProject(metadata map[string][]string, project string) bool {
	reserved := false
	for key, projects := range metadata {
		if strings.HasPrefix(key, "filter_tenant_id") {
			if slices.Contains(projects, project) {
				return true
			}
			reserved = true
		}
	}
	return !reserved
}

// onNetworks keeps a server off hosts without a device on its provider's networks,
// where upstream would fail to bind its ports and try the next host.
func (s *Service) onNetworks(v *Server, host string) bool {
	return !slices.ContainsFunc(v.NICs, func(n NIC) bool { return !s.Networks.Reaches(n.NetworkID, host) })
}

func (s *Service) runsOn(host string) func(string) bool {
	return func(id string) bool {
		o, err := s.servers.Get(id)
		return err == nil && o.DeletedAt == nil && o.Host == host
	}
}

// onSameHost applies same_host: a server or a list of them.
func (s *Service) onSameHost(v *Server, host string) bool {
	same := hintList(v.Hints["same_host"])
	return len(same) == 0 || slices.ContainsFunc(same, s.runsOn(host))
}

// near applies build_near_host_ip and cidr (nova/scheduler/filters/affinity_filter.py).
func (s *Service) near(v *Server, host string) bool {
	to := hintList(v.Hints["build_near_host_ip"])
	if len(to) == 0 {
		return true
	}
	mask := "/24"
	if m := hintList(v.Hints["cidr"]); len(m) > 0 {
		mask = "/" + strings.TrimPrefix(m[0], "/")
	}
	n, err := s.Nodes.Infos.Get(host)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(n.Addr)
	if err != nil {
		return false
	}
	net, err := netip.ParsePrefix(to[0] + mask)
	return err == nil && net.Masked().Contains(addr)
}

func hintList(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			if id, ok := x.(string); ok {
				out = append(out, id)
			}
		}
		return out
	}
	return nil
}
