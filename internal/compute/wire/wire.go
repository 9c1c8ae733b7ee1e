// Package wire is the forms that all parts of the compute API share: links,
// loosely typed values of request bodies, schemas and times.
package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/rest"
)

// Schemas of values that occur in many bodies (nova/api/validation/parameter_types.py).
const (
	Name = `{"type":"string","minLength":1,"maxLength":255,"pattern":"\\S"}`
	Bool = `{"type":["boolean","string"],"enum":[true,"True","TRUE","true","1","ON","On","on","YES","Yes","yes",false,"False","FALSE","false","0","OFF","Off","off","NO","No","no"]}`
	// Metadata is an object of texts.
	Metadata = `{"type":"object","additionalProperties":false,"patternProperties":{"^[a-zA-Z0-9-_:. ]{1,255}$":{"type":"string","maxLength":255}}}`
)

// Body is the schema of an object with one key, whose value is of the given schema.
func Body(key, value string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(`{"type":"object","properties":{"` + key + `":` + value + `},"required":["` + key + `"],"additionalProperties":false}`)}
}

// Links are the self and bookmark links of a resource.
func Links(base, kind, id string) []map[string]string {
	return []map[string]string{
		{"rel": "self", "href": base + "/compute/v2.1/" + kind + "/" + id},
		{"rel": "bookmark", "href": base + "/compute/" + kind + "/" + id},
	}
}

// Truthy reads a value of the schema Bool.
func Truthy(v any) bool {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "1", "on", "yes":
		return true
	}
	return false
}

// Number reads a count that a schema has vouched for: a number or its text.
func Number(v any) int {
	if f, ok := v.(float64); ok {
		return int(f)
	}
	n, err := strconv.Atoi(strings.TrimSpace(fmt.Sprint(v)))
	if err != nil {
		return 0
	}
	return n
}

// OrNull is the text, or null when there is none.
func OrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Text is a JSON string or number as text.
func Text(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// SortTime is a form of times whose order as text is that of the times.
const SortTime = "2006-01-02T15:04:05.000000000"

// Stamp is a time with microseconds, or null.
func Stamp(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// Now is the time in whole seconds, as the API shows it.
func Now() time.Time { return time.Now().UTC().Truncate(time.Second) }
