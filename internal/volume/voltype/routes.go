package voltype

import (
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

const (
	typeFields = `"description":{"type":["string","null"],"maxLength":255}`
	encFields  = `"key_size":{"type":["string","integer","null"],"minimum":0,"maximum":2147483647,"pattern":"^[0-9]*$"},"provider":{"type":"string","maxLength":255},` +
		`"control_location":{"enum":["front-end","back-end"]},"cipher":{"type":["string","null"],"maxLength":255}`
	nullableSpecs = `{"type":"object","patternProperties":{"^[a-zA-Z0-9-_:. /]{1,255}$":{"type":["string","null"],"maxLength":255}},"additionalProperties":false}`
	keySpecs      = `{"type":"object","minProperties":1,"patternProperties":{"^[a-zA-Z0-9-_:.]{1,255}$":{"type":["string","null"],"maxLength":255}},"additionalProperties":false}`
)

// Routes are this package's part of the API.
func (s *Types) Routes() []rest.Route {
	create := wire.Body("volume_type", wire.Object(`"name":`+wire.SomeName+`,`+typeFields+`,"extra_specs":`+nullableSpecs+`,"os-volume-type-access:is_public":`+wire.Bool, `"name"`, "false"))
	update := wire.Body("volume_type", wire.Object(`"name":{"type":["string","null"],"minLength":1,"maxLength":255},`+typeFields+`,"is_public":`+wire.Bool, "", "false"))
	access := func(key string) []rest.Schema {
		return wire.Body(key, wire.Object(`"project":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-]+$"}`, `"project"`, "false"))
	}
	const one, ext = "/types/{type}", "volume_extension:types_extra_specs:"
	return []rest.Route{
		{Method: "GET", Path: "/types", Policy: "volume_extension:type_get_all", Handle: s.list},
		{Method: "POST", Path: "/types", Policy: "volume_extension:type_create", Body: create, Handle: s.create},
		{Method: "GET", Path: one, Policy: "volume_extension:type_get", Handle: s.show},
		{Method: "PUT", Path: one, Policy: "volume_extension:type_update", Body: update, Handle: s.update},
		{Method: "DELETE", Path: one, Policy: "volume_extension:type_delete", Handle: s.remove},
		{Method: "GET", Path: one + "/extra_specs", Policy: ext + "index", Handle: s.listSpecs},
		{Method: "POST", Path: one + "/extra_specs", Policy: ext + "create", Body: wire.Body("extra_specs", keySpecs), Handle: s.createSpecs},
		{Method: "GET", Path: one + "/extra_specs/{key}", Policy: ext + "show", Handle: s.showSpec},
		{Method: "PUT", Path: one + "/extra_specs/{key}", Policy: ext + "update", Body: []rest.Schema{rest.SchemaOf(keySpecs)}, Handle: s.updateSpec},
		{Method: "DELETE", Path: one + "/extra_specs/{key}", Policy: ext + "delete", Handle: s.deleteSpec},
		{Method: "GET", Path: one + "/os-volume-type-access", Policy: "volume_extension:volume_type_access:get_all_for_type", Handle: s.listAccess},
		{Method: "POST", Path: one + "/action", Action: "addProjectAccess", Policy: "volume_extension:volume_type_access:addProjectAccess", Body: access("addProjectAccess"), Handle: s.changeAccess("addProjectAccess", true)},
		{Method: "POST", Path: one + "/action", Action: "removeProjectAccess", Policy: "volume_extension:volume_type_access:removeProjectAccess", Body: access("removeProjectAccess"), Handle: s.changeAccess("removeProjectAccess", false)},
		{Method: "GET", Path: one + "/encryption", Policy: "volume_extension:volume_type_encryption:get", Handle: s.showEncryption},
		{Method: "POST", Path: one + "/encryption", Policy: "volume_extension:volume_type_encryption:create", Body: wire.Body("encryption", wire.Object(encFields, `"provider","control_location"`, "true")), Handle: s.createEncryption},
		{Method: "GET", Path: one + "/encryption/{key}", Policy: "volume_extension:volume_type_encryption:get", Handle: s.showEncryptionItem},
		{Method: "PUT", Path: one + "/encryption/{key}", Policy: "volume_extension:volume_type_encryption:update", Body: wire.Body("encryption", wire.Object(encFields, "", "true")), Handle: s.updateEncryption},
		{Method: "DELETE", Path: one + "/encryption/{key}", Policy: "volume_extension:volume_type_encryption:delete", Handle: s.deleteEncryption},

		{Method: "GET", Path: "/default-types", Policy: "volume_extension:default_get_all", Min: rest.V(3, 62), Handle: s.listDefaults},
		{Method: "GET", Path: "/default-types/{project}", Policy: "volume_extension:default_get", Min: rest.V(3, 62), Handle: s.showDefault},
		{Method: "PUT", Path: "/default-types/{project}", Policy: "volume_extension:default_set_or_update", Min: rest.V(3, 62),
			Body: wire.Body("default_type", wire.Object(`"volume_type":{"type":"string","minLength":1,"maxLength":255}`, `"volume_type"`, "false")), Handle: s.setDefault},
		{Method: "DELETE", Path: "/default-types/{project}", Policy: "volume_extension:default_unset", Min: rest.V(3, 62), Handle: s.unsetDefault},

		{Method: "GET", Path: "/qos-specs", Policy: "volume_extension:qos_specs_manage:get_all", Handle: s.listQoS},
		{Method: "POST", Path: "/qos-specs", Policy: "volume_extension:qos_specs_manage:create", Handle: s.createQoS,
			Body: wire.Body("qos_specs", `{"type":"object","properties":{"name":`+wire.SomeName+`},"required":["name"],"patternProperties":{"^[a-zA-Z0-9-_:. /]{1,255}$":{"type":["string","null"],"maxLength":255}},"additionalProperties":false}`)},
		{Method: "GET", Path: "/qos-specs/{id}", Policy: "volume_extension:qos_specs_manage:get", Handle: s.showQoS},
		{Method: "PUT", Path: "/qos-specs/{id}", Policy: "volume_extension:qos_specs_manage:update", Body: wire.Body("qos_specs", nullableSpecs), Handle: s.updateQoS},
		{Method: "DELETE", Path: "/qos-specs/{id}", Policy: "volume_extension:qos_specs_manage:delete", Handle: s.deleteQoS},
		{Method: "PUT", Path: "/qos-specs/{id}/delete_keys", Policy: "volume_extension:qos_specs_manage:update",
			Body: wire.Body("keys", `{"type":"array","items":{"type":"string","minLength":1,"maxLength":255},"uniqueItems":true}`), Handle: s.deleteQoSKeys},
		{Method: "GET", Path: "/qos-specs/{id}/associations", Policy: "volume_extension:qos_specs_manage:get_all", Handle: s.associations},
		{Method: "GET", Path: "/qos-specs/{id}/associate", Policy: "volume_extension:qos_specs_manage:update", Handle: s.associate},
		{Method: "GET", Path: "/qos-specs/{id}/disassociate", Policy: "volume_extension:qos_specs_manage:update", Handle: s.disassociate},
		{Method: "GET", Path: "/qos-specs/{id}/disassociate_all", Policy: "volume_extension:qos_specs_manage:update", Handle: s.disassociateAll},
	}
}
