package metadef

import (
	"context"
	"encoding/json"

	"github.com/strata-cloud/strata/internal/rest"
)

// Routes are the rows of the image API that belong to the catalogue.
func (c *Catalogue) Routes() []rest.Route {
	const all, one = "/metadefs/namespaces", "/metadefs/namespaces/{namespace}"
	out := []rest.Route{
		{Method: "GET", Path: all, Policy: "get_metadef_namespaces", Handle: c.listNamespaces},
		{Method: "POST", Path: all, Policy: "add_metadef_namespace", Body: bodyOf(namespaceSchema()), Handle: c.createNamespace},
		{Method: "GET", Path: one, Policy: "get_metadef_namespace", Handle: c.showNamespace},
		{Method: "PUT", Path: one, Policy: "modify_metadef_namespace", Body: bodyOf(namespaceSchema()), Handle: c.updateNamespace},
		{Method: "DELETE", Path: one, Policy: "delete_metadef_namespace", Handle: c.deleteNamespace},

		{Method: "GET", Path: "/metadefs/resource_types", Policy: "list_metadef_resource_types", Handle: c.listTypes},
		{Method: "GET", Path: one + "/resource_types", Policy: "get_metadef_resource_type", Handle: c.listAssociations},
		{Method: "POST", Path: one + "/resource_types", Policy: "add_metadef_resource_type_association", Body: bodyOf(typeSchema()), Handle: c.associate},
		{Method: "DELETE", Path: one + "/resource_types/{name}", Policy: "remove_metadef_resource_type_association", Handle: c.dissociate},

		{Method: "POST", Path: one + "/tags", Policy: "add_metadef_tags", Body: bodyOf(map[string]any{"type": "object",
			"properties": map[string]any{"tags": map[string]any{"type": "array", "items": tagSchema()}}, "required": []string{"tags"}}), Handle: c.createTags},
		{Method: "DELETE", Path: one + "/tags", Policy: "delete_metadef_tags", Handle: c.deleteItems(&tags)},
		{Method: "POST", Path: one + "/tags/{name}", Policy: "add_metadef_tag", Handle: c.createItem(&tags)},
	}
	for _, x := range []struct {
		k                                    *kind
		list, show, add, modify, remove, all string
		body                                 map[string]any
	}{
		{&objects, "get_metadef_objects", "get_metadef_object", "add_metadef_object", "modify_metadef_object", "delete_metadef_object", "delete_metadef_object", objectSchema()},
		{&properties, "get_metadef_properties", "get_metadef_property", "add_metadef_property", "modify_metadef_property", "remove_metadef_property", "remove_metadef_property", propertySchema(true)},
		{&tags, "get_metadef_tags", "get_metadef_tag", "", "modify_metadef_tag", "delete_metadef_tag", "", tagSchema()},
	} {
		path := one + "/" + x.k.plural
		out = append(out,
			rest.Route{Method: "GET", Path: path, Policy: x.list, Handle: c.listItems(x.k)},
			rest.Route{Method: "GET", Path: path + "/{name}", Policy: x.show, Handle: c.showItem(x.k)},
			rest.Route{Method: "PUT", Path: path + "/{name}", Policy: x.modify, Body: bodyOf(x.body), Handle: c.updateItem(x.k)},
			rest.Route{Method: "DELETE", Path: path + "/{name}", Policy: x.remove, Handle: c.deleteItems(x.k)})
		if x.add != "" {
			out = append(out,
				rest.Route{Method: "POST", Path: path, Policy: x.add, Body: bodyOf(x.body), Handle: c.createItem(x.k)},
				rest.Route{Method: "DELETE", Path: path, Policy: x.all, Handle: c.deleteItems(x.k)})
		}
	}
	return append(out, schemaRoutes()...)
}

// schemaRoutes serve the schemas that the bodies are checked against, under
// upstream's names.
func schemaRoutes() []rest.Route {
	var out []rest.Route
	for _, x := range []struct {
		path, name string
		schema     map[string]any
	}{{"namespace", "namespace", namespaceSchema()}, {"resource_type", "resource_type_association", typeSchema()}, {"object", "object", objectSchema()},
		{"property", "property", propertySchema(true)}, {"tag", "tag", tagSchema()}} {
		many, manyPath := x.name+"s", x.path+"s"
		if x.name == "property" {
			many, manyPath = "properties", "properties"
		}
		single, list := x.schema, map[string]any{"type": "array", "items": x.schema}
		if x.name == "property" {
			list = map[string]any{"type": "object", "additionalProperties": x.schema}
		}
		text := map[string]string{"type": "string"}
		single["name"] = x.name
		out = append(out, schemaRoute(x.path, single), schemaRoute(manyPath, map[string]any{"name": many,
			"properties": map[string]any{many: list, "first": text, "next": text, "schema": text}}))
	}
	return out
}

func schemaRoute(path string, doc map[string]any) rest.Route {
	return rest.Route{Method: "GET", Path: "/schemas/metadefs/" + path, Policy: "get_metadef_namespaces",
		Handle: func(context.Context, *rest.Request) (*rest.Response, error) { return rest.JSON(200, doc), nil }}
}

// bodyOf makes a request schema of a document.
func bodyOf(doc map[string]any) []rest.Schema {
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err) // the documents are constants of this package
	}
	return []rest.Schema{rest.SchemaOf(string(text))}
}

func text(max int) map[string]any { return map[string]any{"type": "string", "maxLength": max} }

func name() map[string]any {
	return map[string]any{"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[^/]+$"}
}

func stamped(fields map[string]any) map[string]any {
	for _, k := range []string{"created_at", "updated_at", "schema", "self"} {
		fields[k] = map[string]any{"type": "string", "readOnly": true}
	}
	return fields
}

func strict(fields map[string]any, required ...string) map[string]any {
	return map[string]any{"type": "object", "properties": stamped(fields), "required": required, "additionalProperties": false}
}

func namespaceSchema() map[string]any {
	return strict(map[string]any{"namespace": name(), "display_name": text(80), "description": text(500), "owner": text(255),
		"visibility": map[string]any{"type": "string", "enum": []string{"public", "private"}}, "protected": map[string]string{"type": "boolean"},
		"resource_type_associations": map[string]any{"type": "array", "items": typeSchema()},
		"properties":                 map[string]any{"type": "object", "additionalProperties": propertySchema(false)},
		"objects":                    map[string]any{"type": "array", "items": objectSchema()},
		"tags":                       map[string]any{"type": "array", "items": tagSchema()}}, "namespace")
}

func typeSchema() map[string]any {
	return strict(map[string]any{"name": name(), "prefix": text(80), "properties_target": text(80)}, "name")
}

func tagSchema() map[string]any { return strict(map[string]any{"name": name()}, "name") }

func objectSchema() map[string]any {
	return strict(map[string]any{"name": name(), "description": text(500), "required": map[string]any{"type": "array", "items": text(80), "uniqueItems": true},
		"properties": map[string]any{"type": "object", "additionalProperties": propertySchema(false)}}, "name")
}

func propertySchema(named bool) map[string]any {
	types := []string{"array", "boolean", "integer", "number", "object", "string"}
	count := map[string]any{"type": "integer", "minimum": 0}
	truth := map[string]string{"type": "boolean"}
	list := map[string]string{"type": "array"}
	fields := map[string]any{"name": name(), "title": text(500), "description": text(65535), "type": map[string]any{"type": "string", "enum": types},
		"operators": map[string]any{"type": "array", "items": text(80)}, "required": map[string]any{"type": "array", "items": text(80)},
		"minimum": map[string]string{"type": "number"}, "maximum": map[string]string{"type": "number"}, "minLength": count, "maxLength": count,
		"pattern": map[string]any{"type": "string", "format": "regex"}, "enum": list, "readonly": truth, "default": map[string]any{}, "minItems": count, "maxItems": count,
		"uniqueItems": truth, "additionalItems": truth, "confidential": truth,
		"items": map[string]any{"type": "object", "properties": map[string]any{"type": map[string]any{"type": "string", "enum": types}, "enum": list}}}
	required := []string{"title", "type"}
	if named {
		required = append(required, "name")
	}
	return strict(fields, required...)
}
