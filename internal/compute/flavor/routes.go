package flavor

import (
	"strconv"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/rest"
)

// Routes are the flavors' rows of the compute API.
func (s *Flavors) Routes() []rest.Route {
	whole := func(lo, hi int) string {
		return `{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":` + strconv.Itoa(lo) + `,"maximum":` + strconv.Itoa(hi) + `}`
	}
	const most = 0x7fffffff
	create := `"name":` + wire.Name + `,"id":{"type":["string","number","null"],"maxLength":255,"pattern":"^([a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?)?$"},"ram":` + whole(1, most) + `,"vcpus":` + whole(1, most) + `,"disk":` + whole(0, most) +
		`,"OS-FLV-EXT-DATA:ephemeral":` + whole(0, most) + `,"swap":` + whole(0, most) + `,"rxtx_factor":{"type":["number","string"],"pattern":"^[0-9]+(\\.[0-9]+)?$"},"os-flavor-access:is_public":` + wire.Bool
	body := func(fields string) string {
		return `{"type":"object","properties":{"flavor":{"type":"object","properties":{` + fields + `},"required":["name","ram","vcpus","disk"],"additionalProperties":false}},"required":["flavor"],"additionalProperties":false}`
	}
	described := create + `,"description":{"type":["string","null"],"maxLength":65535}`
	specs := wire.Body("extra_specs", `{"type":"object","additionalProperties":{"type":["string","number"]}}`)
	access := func(key string) []rest.Schema {
		return wire.Body(key, `{"type":"object","properties":{"tenant":{"type":"string","minLength":1,"maxLength":255}},"required":["tenant"],"additionalProperties":false}`)
	}
	keys := `{"type":"object","properties":{"limit":{},"marker":{},"is_public":{},"minRam":{},"minDisk":{},"sort_key":{},"sort_dir":{}},"additionalProperties":`
	query := []rest.Schema{rest.SchemaIn(rest.V(2, 1), rest.V(2, 74), keys+"true}"), rest.SchemaIn(rest.V(2, 75), rest.Version{}, keys+"false}")}
	const manage, extra, acc = "os_compute_api:os-flavor-manage:", "os_compute_api:os-flavor-extra-specs:", "os_compute_api:os-flavor-access"
	return []rest.Route{
		{Method: "GET", Path: "/flavors", Policy: "os_compute_api:flavors", Query: query, Handle: s.list(false)},
		{Method: "GET", Path: "/flavors/detail", Policy: "os_compute_api:flavors", Query: query, Handle: s.list(true)},
		{Method: "POST", Path: "/flavors", Policy: manage + "create", Handle: s.create, Body: []rest.Schema{
			rest.SchemaIn(rest.V(2, 1), rest.V(2, 54), body(create)), rest.SchemaIn(rest.V(2, 55), rest.Version{}, body(described))}},
		{Method: "GET", Path: "/flavors/{id}", Policy: "os_compute_api:flavors", Handle: s.show},
		{Method: "PUT", Path: "/flavors/{id}", Policy: manage + "update", Min: rest.V(2, 55), Handle: s.update,
			Body: wire.Body("flavor", `{"type":"object","properties":{"description":{"type":["string","null"],"maxLength":65535}},"required":["description"],"additionalProperties":false}`)},
		{Method: "DELETE", Path: "/flavors/{id}", Policy: manage + "delete", Handle: s.remove},
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
