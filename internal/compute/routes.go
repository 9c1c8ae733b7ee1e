package compute

import (
	"slices"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/rest"
)

// The range of microversions that this table is true for.
var (
	minVersion = rest.V(2, 1)
	maxVersion = rest.V(2, 96)
)

// API is the compute API's table.
func (s *Service) API() *rest.API {
	v := &rest.Microversions{Type: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: minVersion, Max: maxVersion}
	return &rest.API{Name: "compute", Prefix: "/compute/v2.1", Family: rest.ComputeFaults(), Versions: v, ProjectInPath: true, StrictSlash: true,
		RequestIDHeader: "X-Compute-Request-Id", Discovery: discovery(), Routes: slices.Concat(s.serverRoutes(), s.actionRoutes(), s.rebuildRoutes(), s.resizeRoutes(), s.migrateRoutes(), s.liveRoutes(), s.evacuateRoutes(), s.rescueRoutes(), s.snapshotRoutes(), s.shelveRoutes(), s.adminRoutes(), s.attachedRoutes(), s.volumeRoutes(), s.interfaceRoutes(), s.securityGroupRoutes(),
			s.consoleRoutes(), s.passwordRoutes(), s.proxyRoutes(), s.insightRoutes(), s.eventRoutes(),
			s.flavors.Routes(), s.keys.Routes(), s.quotas.Routes(), s.groups.Routes(), s.usages.Routes(), s.moves.Routes(), s.extensionRoutes(), s.pool.Routes())}
}

// LegacyAPI is the API under its older name, for clients that know no microversions.
func (s *Service) LegacyAPI() *rest.API {
	api := s.API()
	api.Prefix, api.Discovery = "/compute/v2", nil
	api.Versions = &rest.Microversions{Type: "compute", Min: minVersion, Max: minVersion, Deaf: true}
	return api
}

func (s *Service) serverRoutes() []rest.Route {
	meta := wire.Body("metadata", metadataSchema)
	return []rest.Route{
		{Method: "GET", Path: "/servers", Policy: "os_compute_api:servers:index", Query: listSchemas(), Handle: s.listServers(false)},
		{Method: "GET", Path: "/servers/detail", Policy: "os_compute_api:servers:detail", Query: listSchemas(), Handle: s.listServers(true)},
		{Method: "POST", Path: "/servers", Policy: "os_compute_api:servers:create", Body: createSchemas(), Handle: s.createServers},
		{Method: "GET", Path: "/servers/{id}", Policy: "os_compute_api:servers:show", Handle: s.showServer},
		{Method: "PUT", Path: "/servers/{id}", Policy: "os_compute_api:servers:update", Body: updateSchemas(), Handle: s.updateServer},
		{Method: "DELETE", Path: "/servers/{id}", Policy: "os_compute_api:servers:delete", Handle: s.deleteServer},

		{Method: "GET", Path: "/servers/{id}/metadata", Policy: "os_compute_api:server-metadata:index", Handle: s.showMetadata},
		{Method: "POST", Path: "/servers/{id}/metadata", Policy: "os_compute_api:server-metadata:create", Body: meta, Handle: s.writeMetadata(false)},
		{Method: "PUT", Path: "/servers/{id}/metadata", Policy: "os_compute_api:server-metadata:update_all", Body: meta, Handle: s.writeMetadata(true)},
		{Method: "GET", Path: "/servers/{id}/metadata/{key}", Policy: "os_compute_api:server-metadata:show", Handle: s.showMetadataItem},
		{Method: "PUT", Path: "/servers/{id}/metadata/{key}", Policy: "os_compute_api:server-metadata:update", Body: wire.Body("meta", metadataSchema), Handle: s.writeMetadataItem},
		{Method: "DELETE", Path: "/servers/{id}/metadata/{key}", Policy: "os_compute_api:server-metadata:delete", Handle: s.deleteMetadataItem},

		{Method: "GET", Path: "/servers/{id}/tags", Policy: "os_compute_api:os-server-tags:index", Min: rest.V(2, 26), Handle: s.listTags},
		{Method: "PUT", Path: "/servers/{id}/tags", Policy: "os_compute_api:os-server-tags:update_all", Min: rest.V(2, 26), Body: wire.Body("tags", tagsSchema), Handle: s.replaceTags},
		{Method: "DELETE", Path: "/servers/{id}/tags", Policy: "os_compute_api:os-server-tags:delete_all", Min: rest.V(2, 26), Handle: s.deleteTags},
		{Method: "GET", Path: "/servers/{id}/tags/{tag}", Policy: "os_compute_api:os-server-tags:show", Min: rest.V(2, 26), Handle: s.hasTag},
		{Method: "PUT", Path: "/servers/{id}/tags/{tag}", Policy: "os_compute_api:os-server-tags:update", Min: rest.V(2, 26), Handle: s.addTag},
		{Method: "DELETE", Path: "/servers/{id}/tags/{tag}", Policy: "os_compute_api:os-server-tags:delete", Min: rest.V(2, 26), Handle: s.deleteTag},

		{Method: "GET", Path: "/servers/{id}/os-instance-actions", Policy: "os_compute_api:os-instance-actions:list", Query: actionSchemas(), Handle: s.listActions},
		{Method: "GET", Path: "/servers/{id}/os-instance-actions/{request}", Policy: "os_compute_api:os-instance-actions:show", Handle: s.showAction},
	}
}

func (s *Service) actionRoutes() []rest.Route {
	act := func(key, policy string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: "POST", Path: "/servers/{id}/action", Action: key, Policy: policy, Body: body, Handle: h}
	}
	lockOld := rest.SchemaIn(rest.V(2, 1), rest.V(2, 72), `{"type":"object","properties":{"lock":{}},"required":["lock"],"additionalProperties":false}`)
	lockNew := rest.SchemaIn(rest.V(2, 73), rest.Version{}, `{"type":"object","properties":{"lock":{"anyOf":[{"type":"null"},{"type":"object","properties":{"locked_reason":{"type":"string","minLength":1,"maxLength":255}},"additionalProperties":false}]}},"required":["lock"],"additionalProperties":false}`)
	group := func(key string) []rest.Schema {
		return wire.Body(key, `{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":255}},"required":["name"]}`)
	}
	return []rest.Route{
		act("os-start", "os_compute_api:servers:start", nil, s.powerAction("os-start")),
		act("os-stop", "os_compute_api:servers:stop", nil, s.powerAction("os-stop")),
		act("reboot", "os_compute_api:servers:reboot", wire.Body("reboot", `{"type":"object","properties":{"type":{"type":"string","enum":["HARD","Hard","hard","SOFT","Soft","soft"]}},"required":["type"],"additionalProperties":false}`), s.reboot),
		act("pause", "os_compute_api:os-pause-server:pause", nil, s.powerAction("pause")),
		act("unpause", "os_compute_api:os-pause-server:unpause", nil, s.powerAction("unpause")),
		act("suspend", "os_compute_api:os-suspend-server:suspend", nil, s.powerAction("suspend")),
		act("resume", "os_compute_api:os-suspend-server:resume", nil, s.powerAction("resume")),
		act("lock", "os_compute_api:os-lock-server:lock", []rest.Schema{lockOld, lockNew}, s.lock),
		act("unlock", "os_compute_api:os-lock-server:unlock", nil, s.unlock),
		act("os-getConsoleOutput", "os_compute_api:os-console-output", wire.Body("os-getConsoleOutput", `{"type":"object","properties":{"length":{"type":["integer","string","null"],"pattern":"^-?[0-9]+$","minimum":-1}},"additionalProperties":false}`), s.consoleOutput),
		act("addSecurityGroup", "os_compute_api:os-security-groups:add", group("addSecurityGroup"), s.changeGroup("addSecurityGroup", true)),
		act("removeSecurityGroup", "os_compute_api:os-security-groups:remove", group("removeSecurityGroup"), s.changeGroup("removeSecurityGroup", false)),
	}
}
