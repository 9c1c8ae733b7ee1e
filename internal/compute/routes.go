package compute

import (
	"slices"
	"strconv"

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
	return &rest.API{Name: "compute", Prefix: "/compute/v2.1", Family: rest.ComputeFaults(), Versions: v, ProjectInPath: true,
		RequestIDHeader: "X-Compute-Request-Id", Discovery: discovery(), Routes: slices.Concat(s.serverRoutes(), s.actionRoutes(), s.adminRoutes(), s.attachedRoutes(),
			s.flavorRoutes(), s.keypairRoutes(), s.quotaRoutes(), s.groupRoutes(), s.usageRoutes(), s.extensionRoutes(), s.pool.Routes())}
}

func (s *Service) serverRoutes() []rest.Route {
	meta := wrapped("metadata", metadataSchema)
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
		{Method: "PUT", Path: "/servers/{id}/metadata/{key}", Policy: "os_compute_api:server-metadata:update", Body: wrapped("meta", metadataSchema), Handle: s.writeMetadataItem},
		{Method: "DELETE", Path: "/servers/{id}/metadata/{key}", Policy: "os_compute_api:server-metadata:delete", Handle: s.deleteMetadataItem},

		{Method: "GET", Path: "/servers/{id}/tags", Policy: "os_compute_api:os-server-tags:index", Min: rest.V(2, 26), Handle: s.listTags},
		{Method: "PUT", Path: "/servers/{id}/tags", Policy: "os_compute_api:os-server-tags:update_all", Min: rest.V(2, 26), Body: wrapped("tags", tagsSchema), Handle: s.replaceTags},
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
		return actionBody(key, `{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":255}},"required":["name"]}`)
	}
	return []rest.Route{
		act("os-start", "os_compute_api:servers:start", nil, s.powerAction("os-start")),
		act("os-stop", "os_compute_api:servers:stop", nil, s.powerAction("os-stop")),
		act("reboot", "os_compute_api:servers:reboot", actionBody("reboot", `{"type":"object","properties":{"type":{"type":"string","enum":["HARD","Hard","hard","SOFT","Soft","soft"]}},"required":["type"],"additionalProperties":false}`), s.reboot),
		act("pause", "os_compute_api:os-pause-server:pause", nil, s.powerAction("pause")),
		act("unpause", "os_compute_api:os-pause-server:unpause", nil, s.powerAction("unpause")),
		act("suspend", "os_compute_api:os-suspend-server:suspend", nil, s.powerAction("suspend")),
		act("resume", "os_compute_api:os-suspend-server:resume", nil, s.powerAction("resume")),
		act("lock", "os_compute_api:os-lock-server:lock", []rest.Schema{lockOld, lockNew}, s.lock),
		act("unlock", "os_compute_api:os-lock-server:unlock", nil, s.unlock),
		act("os-getConsoleOutput", "os_compute_api:os-console-output", actionBody("os-getConsoleOutput", `{"type":"object","properties":{"length":{"type":["integer","string","null"],"pattern":"^-?[0-9]+$","minimum":-1}},"additionalProperties":false}`), s.consoleOutput),
		act("addSecurityGroup", "os_compute_api:os-security-groups:add", group("addSecurityGroup"), s.changeGroup("addSecurityGroup", true)),
		act("removeSecurityGroup", "os_compute_api:os-security-groups:remove", group("removeSecurityGroup"), s.changeGroup("removeSecurityGroup", false)),
	}
}

func (s *Service) keypairRoutes() []rest.Route {
	fields := `"name":{"type":"string","minLength":1,"maxLength":255},"public_key":{"type":"string"}`
	body := func(lo, hi rest.Version, fields, required string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"keypair":{"type":"object","properties":{`+fields+`},"required":[`+required+`],"additionalProperties":false}},"required":["keypair"],"additionalProperties":false}`)
	}
	typed := fields + `,"type":{"type":"string","enum":["ssh","x509"]}`
	owned := typed + `,"user_id":{"type":"string","minLength":1,"maxLength":255}`
	return []rest.Route{
		{Method: "GET", Path: "/os-keypairs", Policy: "os_compute_api:os-keypairs:index", Handle: s.listKeypairs},
		{Method: "POST", Path: "/os-keypairs", Policy: "os_compute_api:os-keypairs:create", Handle: s.createKeypair, Body: []rest.Schema{
			body(rest.V(2, 1), rest.V(2, 1), fields, `"name"`), body(rest.V(2, 2), rest.V(2, 9), typed, `"name"`),
			body(rest.V(2, 10), rest.V(2, 91), owned, `"name"`), body(rest.V(2, 92), rest.Version{}, owned, `"name","public_key"`)}},
		{Method: "GET", Path: "/os-keypairs/{name}", Policy: "os_compute_api:os-keypairs:show", Handle: s.showKeypair},
		{Method: "DELETE", Path: "/os-keypairs/{name}", Policy: "os_compute_api:os-keypairs:delete", Handle: s.deleteKeypair},
	}
}

func (s *Service) flavorRoutes() []rest.Route {
	whole := func(lo, hi int) string {
		return `{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":` + strconv.Itoa(lo) + `,"maximum":` + strconv.Itoa(hi) + `}`
	}
	const most = 0x7fffffff
	create := `"name":` + nameSchema + `,"id":{"type":["string","number","null"],"maxLength":255,"pattern":"^([a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?)?$"},"ram":` + whole(1, most) + `,"vcpus":` + whole(1, most) + `,"disk":` + whole(0, most) +
		`,"OS-FLV-EXT-DATA:ephemeral":` + whole(0, most) + `,"swap":` + whole(0, most) + `,"rxtx_factor":{"type":["number","string"],"pattern":"^[0-9]+(\\.[0-9]+)?$"},"os-flavor-access:is_public":` + boolSchema
	body := func(fields string) string {
		return `{"type":"object","properties":{"flavor":{"type":"object","properties":{` + fields + `},"required":["name","ram","vcpus","disk"],"additionalProperties":false}},"required":["flavor"],"additionalProperties":false}`
	}
	described := create + `,"description":{"type":["string","null"],"maxLength":65535}`
	specs := wrapped("extra_specs", `{"type":"object","additionalProperties":{"type":["string","number"]}}`)
	access := func(key string) []rest.Schema {
		return actionBody(key, `{"type":"object","properties":{"tenant":{"type":"string","minLength":1,"maxLength":255}},"required":["tenant"],"additionalProperties":false}`)
	}
	const manage, extra, acc = "os_compute_api:os-flavor-manage:", "os_compute_api:os-flavor-extra-specs:", "os_compute_api:os-flavor-access"
	return []rest.Route{
		{Method: "GET", Path: "/flavors", Policy: "os_compute_api:flavors", Handle: s.listFlavors(false)},
		{Method: "GET", Path: "/flavors/detail", Policy: "os_compute_api:flavors", Handle: s.listFlavors(true)},
		{Method: "POST", Path: "/flavors", Policy: manage + "create", Handle: s.createFlavor, Body: []rest.Schema{
			rest.SchemaIn(rest.V(2, 1), rest.V(2, 54), body(create)), rest.SchemaIn(rest.V(2, 55), rest.Version{}, body(described))}},
		{Method: "GET", Path: "/flavors/{id}", Policy: "os_compute_api:flavors", Handle: s.showFlavor},
		{Method: "PUT", Path: "/flavors/{id}", Policy: manage + "update", Min: rest.V(2, 55), Handle: s.updateFlavor,
			Body: wrapped("flavor", `{"type":"object","properties":{"description":{"type":["string","null"],"maxLength":65535}},"required":["description"],"additionalProperties":false}`)},
		{Method: "DELETE", Path: "/flavors/{id}", Policy: manage + "delete", Handle: s.deleteFlavor},
		{Method: "GET", Path: "/flavors/{id}/os-extra_specs", Policy: extra + "index", Handle: s.listSpecs},
		{Method: "POST", Path: "/flavors/{id}/os-extra_specs", Policy: extra + "create", Body: specs, Handle: s.createSpecs},
		{Method: "GET", Path: "/flavors/{id}/os-extra_specs/{key}", Policy: extra + "show", Handle: s.showSpec},
		{Method: "PUT", Path: "/flavors/{id}/os-extra_specs/{key}", Policy: extra + "update", Handle: s.updateSpec},
		{Method: "DELETE", Path: "/flavors/{id}/os-extra_specs/{key}", Policy: extra + "delete", Handle: s.deleteSpec},
		{Method: "GET", Path: "/flavors/{id}/os-flavor-access", Policy: acc, Handle: s.listAccess},
		{Method: "POST", Path: "/flavors/{id}/action", Action: "addTenantAccess", Policy: acc + ":add_tenant_access", Body: access("addTenantAccess"), Handle: s.changeAccess("addTenantAccess", true)},
		{Method: "POST", Path: "/flavors/{id}/action", Action: "removeTenantAccess", Policy: acc + ":remove_tenant_access", Body: access("removeTenantAccess"), Handle: s.changeAccess("removeTenantAccess", false)},
	}
}
