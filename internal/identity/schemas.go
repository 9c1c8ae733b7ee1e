package identity

import (
	"encoding/json"
	"strings"

	"github.com/strata-cloud/strata/internal/rest"
)

// Fragments of the request schemas (keystone/resource/schema.py,
// keystone/identity/schema.py, keystone/assignment/schema.py, ...).
const (
	name64      = `{"type":"string","minLength":1,"maxLength":64,"pattern":"\\S"}`
	name255     = `{"type":"string","minLength":1,"maxLength":255,"pattern":"\\S"}`
	boolean     = `{"type":"boolean"}`
	text        = `{"type":"string"}`
	textOrNull  = `{"type":["string","null"]}`
	idString    = `{"type":"string","minLength":1,"maxLength":64,"pattern":"^[a-zA-Z0-9-]+$"}`
	idOrNull    = `{"type":["string","null"],"minLength":1,"maxLength":64,"pattern":"^[a-zA-Z0-9-]+$"}`
	tagList     = `{"type":"array","maxItems":80,"uniqueItems":true,"items":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[^,/]*$"}}`
	boolOrNull  = `{"type":["boolean","null"]}`
	immutableOp = `{"type":"object","additionalProperties":false,"properties":{"immutable":` + boolOrNull + `}}`
	userOptions = `{"type":"object","additionalProperties":false,"properties":{
		"ignore_change_password_upon_first_use":` + boolOrNull + `,"ignore_password_expiry":` + boolOrNull + `,
		"ignore_lockout_failure_attempts":` + boolOrNull + `,"lock_password":` + boolOrNull + `,"ignore_user_inactivity":` + boolOrNull + `,
		"multi_factor_auth_enabled":` + boolOrNull + `,
		"multi_factor_auth_rules":{"type":["array","null"],"items":{"type":"array","items":{"type":"string"},"minItems":1,"uniqueItems":true},"uniqueItems":true}}}`
	urlText = `{"type":"string","minLength":0,"maxLength":225,"pattern":"^[a-zA-Z0-9+.-]+:.+"}`
)

// props is the properties of an object: name and schema in turn.
type props []string

// entity is the schema of {"<name>": {...}}; attributes beyond props are kept as extra ones.
func entity(name string, p props, required ...string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(wrap(name, objectSchema(p, true, required)))}
}

// strict is entity for resources that keep no extra attributes.
func strict(name string, p props, required ...string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(wrap(name, objectSchema(p, false, required)))}
}

func wrap(name, inner string) string {
	return `{"type":"object","required":["` + name + `"],"properties":{"` + name + `":` + inner + `}}`
}

func objectSchema(p props, extra bool, required []string) string {
	var b strings.Builder
	b.WriteString(`{"type":"object","properties":{`)
	for i := 0; i < len(p); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + p[i] + `":` + p[i+1])
	}
	b.WriteByte('}')
	if !extra {
		b.WriteString(`,"additionalProperties":false`)
	}
	if len(required) > 0 {
		list, _ := json.Marshal(required)
		b.WriteString(`,"required":` + string(list))
	}
	b.WriteByte('}')
	return b.String()
}

const domainPart = `{"type":"object","properties":{"id":{"type":"string"},"name":{"type":"string"}}}`

// authSchema is that of POST /auth/tokens (keystone/auth/schema.py).
func authSchema() []rest.Schema {
	user := `{"type":"object","properties":{"id":` + text + `,"name":` + text + `,"password":` + text + `,"domain":` + domainPart + `}}`
	return []rest.Schema{rest.SchemaOf(`{"type":"object","required":["auth"],"properties":{"auth":{"type":"object","required":["identity"],"properties":{
		"identity":{"type":"object","required":["methods"],"properties":{
			"methods":{"type":"array","items":{"type":"string"}},
			"password":{"type":"object","properties":{"user":` + user + `}},
			"token":{"type":"object","required":["id"],"properties":{"id":` + text + `}},
			"application_credential":{"type":"object","required":["secret"],"properties":{"id":` + text + `,"name":` + text + `,"secret":` + text + `,"user":` + user + `}}}},
		"scope":{"type":["object","string"],"properties":{
			"project":{"type":"object","properties":{"id":` + text + `,"name":` + text + `,"domain":` + domainPart + `}},
			"domain":` + domainPart + `,
			"OS-TRUST:trust":{"type":"object","properties":{"id":` + text + `}},
			"system":{"type":"object","properties":{"all":` + boolean + `}}}}}}}}`)}
}

func domainProps() props {
	return props{"name", name64, "description", textOrNull, "enabled", boolean, "tags", tagList, "options", immutableOp,
		"explicit_domain_id", text}
}

func projectProps() props {
	return props{"name", name64, "description", textOrNull, "enabled", boolean, "is_domain", boolean, "tags", tagList,
		"domain_id", idOrNull, "parent_id", idOrNull, "options", immutableOp}
}

func userProps() props {
	return props{"name", name255, "domain_id", idString, "enabled", boolean, "description", textOrNull, "default_project_id", textOrNull,
		"password", textOrNull, "options", userOptions}
}

func passwordSchema() []rest.Schema {
	return strict("user", props{"password", text, "original_password", text}, "password", "original_password")
}

func groupProps() props {
	return props{"name", name64, "domain_id", idString, "description", textOrNull}
}

func roleProps() props {
	return props{"name", name255, "domain_id", idOrNull, "description", textOrNull, "options", immutableOp}
}

func regionProps() props {
	const id = `{"type":["string","null"],"minLength":0,"maxLength":255}`
	return props{"id", id, "description", textOrNull, "parent_region_id", id}
}

func serviceProps() props {
	return props{"type", `{"type":"string","minLength":1,"maxLength":255}`, "name", `{"type":"string","minLength":1,"maxLength":255}`,
		"description", textOrNull, "enabled", boolean}
}

func endpointProps() props {
	return props{"interface", `{"type":"string","enum":["admin","internal","public"]}`, "url", urlText, "service_id", text,
		"region", textOrNull, "region_id", textOrNull, "enabled", boolean}
}

func appCredSchema() []rest.Schema {
	roles := `{"type":"array","items":{"type":"object","properties":{"id":` + idString + `,"name":` + name255 + `},"minProperties":1,"additionalProperties":false}}`
	rules := `{"type":"array","items":{"type":"object","properties":{"id":` + idString + `,
		"path":{"type":"string","minLength":0,"maxLength":255},"service":` + idString + `,
		"method":{"type":"string","enum":["DELETE","GET","HEAD","PATCH","POST","PUT"]}},"additionalProperties":false}}`
	return strict("application_credential", props{"name", name255, "description", textOrNull, "secret", `{"type":["string","null"],"minLength":1}`,
		"expires_at", textOrNull, "roles", roles, "unrestricted", boolean, "access_rules", rules, "project_id", text}, "name")
}

func credentialProps() props {
	return props{"blob", text, "type", text, "user_id", idString, "project_id", textOrNull}
}

func trustSchema() []rest.Schema {
	return entity("trust", props{"impersonation", boolean, "trustor_user_id", text, "trustee_user_id", text, "project_id", textOrNull,
		"expires_at", textOrNull, "remaining_uses", `{"type":["integer","null"],"minimum":1}`,
		"redelegation_count", `{"type":["integer","null"],"minimum":0}`, "allow_redelegation", boolean,
		"roles", `{"type":"array","items":{"type":"object","properties":{"id":` + text + `,"name":` + text + `},"minProperties":1}}`},
		"trustee_user_id", "trustor_user_id", "impersonation")
}

// limitNumber is any 32-bit integer from -1, which means without limit.
const limitNumber = `{"type":"integer","minimum":-1,"maximum":2147483647}`

func registeredProps() props {
	return props{"service_id", text, "region_id", textOrNull, "resource_name", name255, "default_limit", limitNumber, "description", textOrNull}
}

// listOf is the schema of {"<name>": [{...}, ...]}.
func listOf(name string, p props, required ...string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(wrap(name, `{"type":"array","minItems":1,"items":`+objectSchema(p, false, required)+`}`))}
}

func registeredSchema() []rest.Schema {
	return listOf("registered_limits", registeredProps(), "service_id", "resource_name", "default_limit")
}

func limitsSchema() []rest.Schema {
	return listOf("limits", props{"service_id", text, "region_id", textOrNull, "resource_name", name255, "resource_limit", limitNumber,
		"description", textOrNull, "project_id", textOrNull, "domain_id", textOrNull}, "service_id", "resource_name", "resource_limit")
}
