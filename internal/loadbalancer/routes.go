package loadbalancer

import (
	"slices"

	"github.com/strata-cloud/strata/internal/rest"
)

// prefix is where the API hangs.
const prefix = "/load-balancer/v2"

// API is the load-balancer API's table; /v2.0 is the same, for clients that ask for it.
func (s *Service) API() *rest.API { return s.api(prefix) }

// OlderAPI is API at its older place.
func (s *Service) OlderAPI() *rest.API { return s.api(prefix + ".0") }

func (s *Service) api(at string) *rest.API {
	api := &rest.API{Name: "load-balancer", Prefix: at, Family: rest.LoadBalancerFaults(), TargetPolicy: true,
		Routes: slices.Concat(s.balancerRoutes(), s.partRoutes(), s.memberRoutes(), s.quotaRoutes(), s.miscRoutes())}
	if at == prefix {
		api.Discovery = map[string]rest.Document{"/load-balancer": versions}
	}
	return api
}

func row(method, path, rule string, h rest.Handler) rest.Route {
	return rest.Route{Method: method, Path: path, Policy: "os_load-balancer_api:" + rule, Handle: h}
}

// both gives the row also below /lbaas, where clients of Neutron's LBaaS and gophercloud find it.
func both(rows ...rest.Route) []rest.Route {
	for _, r := range slices.Clone(rows) {
		r.Path = "/lbaas" + r.Path
		rows = append(rows, r)
	}
	return rows
}

func (s *Service) balancerRoutes() []rest.Route {
	const all, one = "/loadbalancers", "/loadbalancers/{id}"
	return both(
		row("GET", all, "loadbalancer:get_all", s.list(balancerKind)),
		row("POST", all, "loadbalancer:post", s.createBalancer),
		row("GET", one, "loadbalancer:get_one", s.showBalancer),
		row("PUT", one, "loadbalancer:put", s.updateBalancer),
		row("DELETE", one, "loadbalancer:delete", s.deleteBalancer),
		row("GET", one+"/status", "loadbalancer:get_status", s.showTree),
		row("GET", one+"/statuses", "loadbalancer:get_status", s.showTree),
		row("GET", one+"/stats", "loadbalancer:get_stats", s.showStats),
		row("PUT", one+"/failover", "loadbalancer:put_failover", s.failover),
	)
}

func (s *Service) partRoutes() []rest.Route {
	return both(
		row("GET", "/listeners", "listener:get_all", s.list(listenerKind)),
		row("POST", "/listeners", "listener:post", s.createListener),
		row("GET", "/listeners/{id}", "listener:get_one", s.show(listenerKind)),
		row("PUT", "/listeners/{id}", "listener:put", s.updateListener),
		row("DELETE", "/listeners/{id}", "listener:delete", s.deleteListener),
		row("GET", "/listeners/{id}/stats", "listener:get_stats", s.showListenerStats),
		row("GET", "/pools", "pool:get_all", s.list(poolKind)),
		row("POST", "/pools", "pool:post", s.createPool),
		row("GET", "/pools/{id}", "pool:get_one", s.show(poolKind)),
		row("PUT", "/pools/{id}", "pool:put", s.updatePool),
		row("DELETE", "/pools/{id}", "pool:delete", s.deletePool),
		row("GET", "/healthmonitors", "healthmonitor:get_all", s.list(monitorKind)),
		row("POST", "/healthmonitors", "healthmonitor:post", s.createMonitor),
		row("GET", "/healthmonitors/{id}", "healthmonitor:get_one", s.show(monitorKind)),
		row("PUT", "/healthmonitors/{id}", "healthmonitor:put", s.updateMonitor),
		row("DELETE", "/healthmonitors/{id}", "healthmonitor:delete", s.deleteMonitor),
	)
}

func (s *Service) memberRoutes() []rest.Route {
	const all, one = "/pools/{pool_id}/members", "/pools/{pool_id}/members/{id}"
	return both(
		row("GET", all, "member:get_all", s.listMembers),
		row("POST", all, "member:post", s.createMember),
		row("PUT", all, "member:put", s.batchMembers),
		row("GET", one, "member:get_one", s.showMember),
		row("PUT", one, "member:put", s.updateMember),
		row("DELETE", one, "member:delete", s.deleteMember),
	)
}

func (s *Service) quotaRoutes() []rest.Route {
	return both(
		row("GET", "/quotas", "quota:get_all", s.listQuotas),
		row("GET", "/quotas/defaults", "quota:get_defaults", s.defaultQuota),
		row("GET", "/quotas/{project_id}", "quota:get_one", s.showQuota(false)),
		row("PUT", "/quotas/{project_id}", "quota:put", s.setQuota),
		row("DELETE", "/quotas/{project_id}", "quota:delete", s.resetQuota),
		row("GET", "/quotas/{project_id}/default", "quota:get_defaults", s.showQuota(true)),
	)
}

func (s *Service) miscRoutes() []rest.Route {
	return both(
		row("GET", "/providers", "provider:get_all", s.listProviders),
		row("GET", "/flavors", "flavor:get_all", none("flavors")),
		row("GET", "/flavors/{id}", "flavor:get_one", noFlavor),
		row("GET", "/availabilityzones", "availability-zone:get_all", none("availability_zones")),
		row("GET", "/availabilityzones/{id}", "availability-zone:get_one", noZone),
	)
}
