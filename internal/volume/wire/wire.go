// Package wire is the forms that all parts of the volume API share: links,
// loosely typed values of request bodies, schemas, times, and lists in pages.
package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Schemas of values that occur in many bodies (cinder/api/validation/parameter_types.py).
const (
	Bool        = `{"type":["boolean","string"],"enum":[true,"True","TRUE","true","1","ON","On","on","YES","Yes","yes","y","t",false,"False","FALSE","false","0","OFF","Off","off","NO","No","no","n","f"]}`
	OptBool     = `{"anyOf":[{"type":"null"},` + Bool + `]}`
	Name        = `{"type":["string","null"],"maxLength":255}`
	SomeName    = `{"type":"string","minLength":1,"maxLength":255,"pattern":"\\S"}`
	UUID        = `{"type":"string","format":"uuid"}`
	OptUUID     = `{"anyOf":[{"type":"null"},{"type":"string","format":"uuid"}]}`
	Specs       = `{"type":"object","patternProperties":{"^[a-zA-Z0-9-_:. /]{1,255}$":{"type":"string","maxLength":255}},"additionalProperties":false}`
	OptSpecs    = `{"type":["object","null"],"patternProperties":{"^[a-zA-Z0-9-_:. /]{1,255}$":{"type":"string","maxLength":255}},"additionalProperties":false}`
	Size        = `{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":1,"maximum":2147483647}`
	OptSize     = `{"type":["integer","string","null"],"pattern":"^[0-9]+$","minimum":1,"maximum":2147483647}`
	Zone        = `{"type":["string","null"],"minLength":1,"maxLength":255}`
	PlainObject = `{"type":["object","null"]}`
)

// Object is the schema of an object with the properties (the text between its
// braces) and, in open, whether others are allowed.
func Object(properties, required, open string) string {
	s := `{"type":"object","properties":{` + properties + `},"additionalProperties":` + open
	if required != "" {
		s += `,"required":[` + required + `]`
	}
	return s + `}`
}

// Body is the schema of an object with one key, whose value is of the given schema.
func Body(key, value string) []rest.Schema { return []rest.Schema{rest.SchemaOf(BodyText(key, value))} }

// BodyIn is Body for the microversions in [lo, hi].
func BodyIn(lo, hi rest.Version, key, value string) rest.Schema {
	return rest.SchemaIn(lo, hi, BodyText(key, value))
}

// BodyText is the text of Body's schema.
func BodyText(key, value string) string {
	return Object(`"`+key+`":`+value, `"`+key+`"`, "false")
}

// root is the API's place as this request's client wrote it: with the project's
// id when the request has it.
func root(r *rest.Request) string {
	at := "/volume/v3"
	if p := r.Creds.ProjectID; p != "" && strings.Contains(r.HTTP.RequestURI, "/v3/"+p) {
		at += "/" + p
	}
	return at
}

// Links are the self and bookmark links of a resource.
func Links(r *rest.Request, kind, id string) []map[string]string {
	at := root(r)
	return []map[string]string{
		{"rel": "self", "href": r.Base() + at + "/" + kind + "/" + id},
		{"rel": "bookmark", "href": r.Base() + strings.Replace(at, "/v3", "", 1) + "/" + kind + "/" + id},
	}
}

// Truthy reads a value of the schema Bool.
func Truthy(v any) bool {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "1", "on", "yes", "y", "t":
		return true
	}
	return false
}

// Flag reads a boolean of a query strictly (cinder/utils.py, get_bool_param).
func Flag(name, text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "on", "yes", "y", "t":
		return true, nil
	case "", "false", "0", "off", "no", "n", "f":
		return false, nil
	}
	return false, errs.Invalidf("Value '%s' for '%s' is not a boolean.", text, name)
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

// Text is the string that v points to, without blanks around it.
func Text(v *string) string {
	if v == nil {
		return ""
	}
	return strings.TrimSpace(*v)
}

// Trim is v without blanks around it.
func Trim(v *string) *string {
	if v == nil {
		return nil
	}
	t := strings.TrimSpace(*v)
	return &t
}

// Stamp is a time with microseconds; the zero time is null.
func Stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}

// Null is s, or null for the empty string.
func Null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Map is m, never null.
func Map(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// Now is the time with the precision that the API shows.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// NotFound says in upstream's words that a thing does not exist.
func NotFound(kind, id string) error { return errs.NotFoundf("%s %s could not be found.", kind, id) }

// InvalidVolume is upstream's refusal of a volume in the wrong state.
func InvalidVolume(format string, args ...any) error {
	return errs.Invalidf("Invalid volume: "+format, args...)
}

// InvalidSnapshot is upstream's refusal of a snapshot in the wrong state.
func InvalidSnapshot(format string, args ...any) error {
	return errs.Invalidf("Invalid snapshot: "+format, args...)
}

// InvalidGroup is upstream's refusal of a group in the wrong state.
func InvalidGroup(format string, args ...any) error {
	return errs.Invalidf("Invalid Group: "+format, args...)
}

// InvalidInput is upstream's refusal of what a request says.
func InvalidInput(format string, args ...any) error {
	return errs.Invalidf("Invalid input received: "+format, args...)
}
