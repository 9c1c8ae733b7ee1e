package image

import (
	"context"

	"github.com/strata-cloud/strata/internal/rest"
)

// document serves a schema; clients read from it which attributes there are
// (glance/api/v2/schemas.py).
func document(make func() map[string]any) rest.Handler {
	return func(context.Context, *rest.Request) (*rest.Response, error) { return rest.JSON(200, make()), nil }
}

// prop is the description of one attribute.
func prop(types any, about string, more ...any) map[string]any {
	out := map[string]any{"type": types, "description": about}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i].(string)] = more[i+1]
	}
	return out
}

func nullable(t string) []string { return []string{"null", t} }

func withNull(list []string) []any {
	out := []any{nil}
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func imageSchema() map[string]any {
	const ro = "readOnly"
	return map[string]any{
		"name":                 "image",
		"additionalProperties": map[string]string{"type": "string"},
		"links":                []any{schemaLink("self", "{self}"), schemaLink("enclosure", "{file}"), schemaLink("describedby", "{schema}")},
		"properties": map[string]any{
			"id":   prop("string", "An identifier for the image", "pattern", "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"),
			"name": prop(nullable("string"), "Name of the image", "maxLength", maxName),
			"status": prop("string", "Status of the image", ro, true, "enum",
				[]string{"queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated"}),
			"visibility":       prop("string", "Who can reach the image", "enum", visibilities),
			"protected":        prop("boolean", "Whether the image is guarded against deletion."),
			"os_hidden":        prop("boolean", "Whether lists leave the image out unless they ask for it."),
			"checksum":         prop(nullable("string"), "md5 of the data.", ro, true, "maxLength", 32),
			"os_hash_algo":     prop(nullable("string"), "Algorithm of os_hash_value", ro, true, "maxLength", 64),
			"os_hash_value":    prop(nullable("string"), "Hexadecimal digest of the data by os_hash_algo.", ro, true, "maxLength", 128),
			"owner":            prop(nullable("string"), "Project that owns the image", "maxLength", maxName),
			"size":             prop(nullable("integer"), "Size of the data in bytes", ro, true),
			"virtual_size":     prop(nullable("integer"), "Size of the disk in bytes", ro, true),
			"container_format": prop(nullable("string"), "Format of the container", "enum", withNull(containerFormats)),
			"disk_format":      prop(nullable("string"), "Format of the disk", "enum", withNull(diskFormats)),
			"created_at":       prop("string", "When the image was registered", ro, true),
			"updated_at":       prop("string", "When the image was last changed", ro, true),
			"tags":             prop("array", "Tags of the image", "items", map[string]any{"type": "string", "maxLength": maxName}),
			"direct_url":       prop("string", "Address of the data in an external store", ro, true),
			"min_ram":          prop("integer", "RAM that a server needs to boot the image, in MiB."),
			"min_disk":         prop("integer", "Disk that a server needs to boot the image, in GiB."),
			"self":             prop("string", "Address of the image", ro, true),
			"file":             prop("string", "Address of the data", ro, true),
			"schema":           prop("string", "Address of the schema", ro, true),
			"stores":           prop("string", "Stores that hold the data, where there are several.", ro, true),
			"locations": prop("array", "Addresses of the data in external stores", "items", map[string]any{"type": "object",
				"properties": map[string]any{"url": map[string]any{"type": "string", "maxLength": 255}, "metadata": map[string]string{"type": "object"}},
				"required":   []string{"url", "metadata"}}),
		},
	}
}

func schemaLink(rel, href string) map[string]string {
	return map[string]string{"rel": rel, "href": href}
}

func imagesSchema() map[string]any {
	text := map[string]string{"type": "string"}
	return map[string]any{"name": "images",
		"properties": map[string]any{"images": map[string]any{"type": "array", "items": imageSchema()}, "first": text, "next": text, "schema": text},
		"links":      []any{schemaLink("first", "{first}"), schemaLink("next", "{next}"), schemaLink("describedby", "{schema}")}}
}

func memberSchema() map[string]any {
	return map[string]any{"name": "member", "properties": map[string]any{
		"member_id":  prop("string", "Project that the image is shared with"),
		"image_id":   prop("string", "An identifier for the image", "pattern", "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"),
		"created_at": prop("string", "When the member was added"),
		"updated_at": prop("string", "When the member was last changed"),
		"status":     prop("string", "What the member has decided", "enum", []string{"pending", "accepted", "rejected"}),
		"schema":     map[string]any{"readOnly": true, "type": "string"},
	}}
}

func membersSchema() map[string]any {
	return map[string]any{"name": "members",
		"properties": map[string]any{"members": map[string]any{"type": "array", "items": memberSchema()}, "schema": map[string]string{"type": "string"}},
		"links":      []any{schemaLink("describedby", "{schema}")}}
}
