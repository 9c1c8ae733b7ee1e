package placement

import (
	"strings"

	"github.com/strata-cloud/strata/internal/rest"
)

// The request schemas follow placement/schemas: unknown fields are refused.
const (
	uuidText  = `{"type":"string","pattern":"^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"}`
	uuidKey   = `"^[0-9a-fA-F-]{36}$"`
	classKey  = `"^[A-Z0-9_]+$"`
	whole     = `{"type":"integer","maximum":2147483647,"minimum":`
	inventory = `"resource_provider_generation":{"type":"integer"},"total":` + whole + `1},"reserved":` + whole + `0},"min_unit":` + whole + `1},"max_unit":` + whole +
		`1},"step_size":` + whole + `1},"allocation_ratio":{"type":"number","maximum":3.40282e+38}`
	inventoriesText = `{"type":"object","properties":{"resource_provider_generation":{"type":"integer"},"inventories":{"type":"object","additionalProperties":false,"patternProperties":{` +
		classKey + `:{"type":"object","properties":{` + inventory + `},"required":["total"],"additionalProperties":false}}}},"required":["resource_provider_generation","inventories"],"additionalProperties":false}`
	resourcesText = `{"type":"object","minProperties":1,"patternProperties":{` + classKey + `:{"type":"integer","minimum":1}},"additionalProperties":false}`
	idText        = `{"type":"string","minLength":1,"maxLength":255}`
)

func object(fields, required string) string {
	return `{"type":"object","properties":{` + fields + `},"required":[` + required + `],"additionalProperties":false}`
}

func providerSchemas(create bool) []rest.Schema {
	fields := `"name":{"type":"string","minLength":1,"maxLength":200}`
	if create {
		fields += `,"uuid":` + uuidText
	}
	nested := fields + `,"parent_provider_uuid":{"anyOf":[` + uuidText + `,{"type":"null"}]}`
	return []rest.Schema{rest.SchemaIn(rest.V(1, 0), rest.V(1, 13), object(fields, `"name"`)), rest.SchemaIn(rest.V(1, 14), rest.Version{}, object(nested, `"name"`))}
}

// inventorySchema is for one inventory; a create names its class in the body.
func inventorySchema(required string) []rest.Schema {
	fields := inventory
	if strings.Contains(required, "resource_class") {
		fields += `,"resource_class":{"type":"string","pattern":` + classKey + `}`
	}
	return []rest.Schema{rest.SchemaOf(object(fields, required))}
}

func inventoriesSchema() []rest.Schema { return []rest.Schema{rest.SchemaOf(inventoriesText)} }

func aggregateSchemas() []rest.Schema {
	list := `{"type":"array","items":` + uuidText + `,"uniqueItems":true}`
	return []rest.Schema{rest.SchemaIn(rest.V(1, 1), rest.V(1, 18), list),
		rest.SchemaIn(rest.V(1, 19), rest.Version{}, object(`"aggregates":`+list+`,"resource_provider_generation":{"type":"integer"}`, `"aggregates","resource_provider_generation"`))}
}

func traitsSchema() []rest.Schema {
	return []rest.Schema{rest.SchemaOf(object(`"traits":{"type":"array","items":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[A-Z0-9_]+$"},"uniqueItems":true},"resource_provider_generation":{"type":"integer"}`,
		`"traits","resource_provider_generation"`))}
}

func classSchema() []rest.Schema {
	return []rest.Schema{rest.SchemaOf(object(`"name":{"type":"string","pattern":"^CUSTOM_[A-Z0-9_]+$","maxLength":255}`, `"name"`))}
}

// held is the allocations object since 1.12: provider -> resources.
func held(least string) string {
	return `"allocations":{"type":"object","minProperties":` + least + `,"additionalProperties":false,"patternProperties":{` + uuidKey + `:` +
		object(`"generation":{"type":"integer"},"resources":`+resourcesText, `"resources"`) + `}},"project_id":` + idText + `,"user_id":` + idText
}

const (
	owner       = `"allocations","project_id","user_id"`
	generation  = `,"consumer_generation":{"type":["integer","null"]}`
	mappings    = `,"mappings":{"type":"object","minProperties":1,"patternProperties":{"^[a-zA-Z0-9_-]{0,64}$":{"type":"array","minItems":1,"items":` + uuidText + `}}}`
	kindOf      = `,"consumer_type":{"type":"string","pattern":"^[A-Z0-9_]+$","minLength":1,"maxLength":255}`
	needsGen    = owner + `,"consumer_generation"`
	needsGenKnd = needsGen + `,"consumer_type"`
)

// consumerVersions are the forms of one consumer's allocations since 1.28.
func consumerVersions(wrap func(string) string) []rest.Schema {
	return []rest.Schema{
		rest.SchemaIn(rest.V(1, 28), rest.V(1, 33), wrap(object(held("0")+generation, needsGen))),
		rest.SchemaIn(rest.V(1, 34), rest.V(1, 37), wrap(object(held("0")+generation+mappings, needsGen))),
		rest.SchemaIn(rest.V(1, 38), rest.Version{}, wrap(object(held("0")+generation+mappings+kindOf, needsGenKnd))),
	}
}

func allocationSchemas() []rest.Schema {
	list := `"allocations":{"type":"array","minItems":1,"items":` + object(`"resource_provider":`+object(`"uuid":`+uuidText, `"uuid"`)+`,"resources":`+resourcesText, `"resource_provider","resources"`) + `}`
	return append([]rest.Schema{
		rest.SchemaIn(rest.V(1, 0), rest.V(1, 7), object(list, `"allocations"`)),
		rest.SchemaIn(rest.V(1, 8), rest.V(1, 11), object(list+`,"project_id":`+idText+`,"user_id":`+idText, owner)),
		rest.SchemaIn(rest.V(1, 12), rest.V(1, 27), object(held("1"), owner)),
	}, consumerVersions(func(s string) string { return s })...)
}

func byConsumer(s string) string {
	return `{"type":"object","minProperties":1,"additionalProperties":false,"patternProperties":{` + uuidKey + `:` + s + `}}`
}

func manyAllocationSchemas() []rest.Schema {
	return append([]rest.Schema{rest.SchemaIn(rest.V(1, 13), rest.V(1, 27), byConsumer(object(held("0"), owner)))}, consumerVersions(byConsumer)...)
}

func reshaperSchemas() []rest.Schema {
	list := consumerVersions(func(s string) string {
		consumers := strings.Replace(byConsumer(s), `"minProperties":1`, `"minProperties":0`, 1)
		return object(`"inventories":{"type":"object","minProperties":1,"additionalProperties":false,"patternProperties":{`+uuidKey+`:`+inventoriesText+`}},"allocations":`+consumers,
			`"inventories","allocations"`)
	})
	return list
}
