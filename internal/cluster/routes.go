package cluster

import "github.com/strata-cloud/strata/internal/rest"

// The range of microversions that this table is true for.
var (
	minVersion = rest.V(1, 1)
	maxVersion = rest.V(1, 11)
)

// ServiceType is the service's in the catalog.
const ServiceType = "container-infra"

// The schemas that patches are held to as well.
var (
	templateSchema = rest.SchemaOf(templateBody)
	groupSchema    = rest.SchemaOf(groupBody)
	countSchema    = rest.SchemaOf(`{"type":"object","properties":{"node_count":` + countField + `}}`)
)

// API is the service's table.
func (s *Service) API() *rest.API {
	return &rest.API{Name: ServiceType, Prefix: prefix, Family: rest.ClusterFaults(), Discovery: discovery(),
		Versions: &rest.Microversions{Type: "container-infrastructure-management", Aliases: []string{"container-infrastructure", ServiceType}, Min: minVersion, Max: maxVersion},
		Routes:   append(s.clusterRoutes(), s.otherRoutes()...)}
}

func schema(text string) []rest.Schema { return []rest.Schema{rest.SchemaOf(text)} }

func (s *Service) clusterRoutes() []rest.Route {
	const one, action = "/clusters/{cluster}", "/clusters/{cluster}/actions/"
	const groups, group = one + "/nodegroups", one + "/nodegroups/{group}"
	return []rest.Route{
		{Method: "GET", Path: "/clusters", Policy: "cluster:get_all", Handle: s.listClusters("/clusters", false)},
		{Method: "GET", Path: "/clusters/detail", Policy: "cluster:detail", Handle: s.listClusters("/clusters/detail", true)},
		{Method: "POST", Path: "/clusters", Policy: "cluster:create", Body: schema(clusterBody), Handle: s.createCluster},
		{Method: "GET", Path: one, Policy: "cluster:get", Handle: s.showCluster},
		{Method: "PATCH", Path: one, Policy: "cluster:update", Body: schema(patchBody), Handle: s.updateCluster},
		{Method: "DELETE", Path: one, Policy: "cluster:delete", Handle: s.deleteCluster},
		{Method: "POST", Path: action + "resize", Policy: "cluster:resize", Min: rest.V(1, 7), Body: schema(resizeBody), Handle: s.resizeCluster},
		{Method: "POST", Path: action + "upgrade", Policy: "cluster:upgrade", Min: rest.V(1, 7), Body: schema(upgradeBody), Handle: s.upgradeCluster},
		{Method: "GET", Path: groups, Policy: "nodegroup:get_all", Min: rest.V(1, 9), Handle: s.listGroups},
		{Method: "POST", Path: groups, Policy: "nodegroup:create", Min: rest.V(1, 9), Body: []rest.Schema{groupSchema}, Handle: s.createGroup},
		{Method: "GET", Path: group, Policy: "nodegroup:get", Min: rest.V(1, 9), Handle: s.showGroup},
		{Method: "PATCH", Path: group, Policy: "nodegroup:update", Min: rest.V(1, 9), Body: schema(patchBody), Handle: s.updateGroup},
		{Method: "DELETE", Path: group, Policy: "nodegroup:delete", Min: rest.V(1, 9), Handle: s.deleteGroup},
	}
}

func (s *Service) otherRoutes() []rest.Route {
	const template, quota = "/clustertemplates/{template}", "/quotas/{project}/{resource}"
	return []rest.Route{
		{Method: "GET", Path: "/clustertemplates", Policy: "clustertemplate:get_all", Handle: s.listTemplates("/clustertemplates")},
		{Method: "GET", Path: "/clustertemplates/detail", Policy: "clustertemplate:detail", Handle: s.listTemplates("/clustertemplates/detail")},
		{Method: "POST", Path: "/clustertemplates", Policy: "clustertemplate:create", Body: []rest.Schema{templateSchema}, Handle: s.createTemplate},
		{Method: "GET", Path: template, Policy: "clustertemplate:get", Handle: s.showTemplate},
		{Method: "PATCH", Path: template, Policy: "clustertemplate:update", Body: schema(patchBody), Handle: s.updateTemplate},
		{Method: "DELETE", Path: template, Policy: "clustertemplate:delete", Handle: s.deleteTemplate},
		{Method: "POST", Path: "/certificates", Policy: "certificate:create", Body: schema(certificateBody), Handle: s.signCertificate},
		{Method: "GET", Path: "/certificates/{cluster}", Policy: "certificate:get", Handle: s.showCertificate},
		{Method: "GET", Path: "/mservices", Policy: "magnum-service:get_all", Handle: s.services},
		{Method: "GET", Path: "/stats", Policy: "stats:get_all", Min: rest.V(1, 4), Handle: s.stats},
		{Method: "GET", Path: "/quotas", Policy: "quota:get_all", Min: rest.V(1, 6), Handle: s.listQuotas},
		{Method: "POST", Path: "/quotas", Policy: "quota:create", Min: rest.V(1, 6), Body: schema(quotaBody), Handle: s.createQuota},
		{Method: "GET", Path: quota, Policy: "quota:get", Min: rest.V(1, 6), Handle: s.showQuota},
		{Method: "PATCH", Path: quota, Policy: "quota:update", Min: rest.V(1, 6), Body: schema(quotaBody), Handle: s.updateQuota},
		{Method: "DELETE", Path: quota, Policy: "quota:delete", Min: rest.V(1, 6), Handle: s.deleteQuota},
	}
}
