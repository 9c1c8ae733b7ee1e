package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/strata-cloud/strata/internal/errs"
)

// Schema is a JSON schema (draft 4 to 2020-12) that holds for a range of
// microversions. It is compiled at its first use.
type Schema struct {
	Min, Max Version
	compile  func() (*jsonschema.Schema, error)
}

// SchemaOf makes a schema for every version from its text.
func SchemaOf(text string) Schema { return SchemaIn(Version{}, Version{}, text) }

// SchemaIn makes a schema for the versions in [lo, hi]; a zero bound is open.
func SchemaIn(lo, hi Version, text string) Schema {
	return Schema{lo, hi, sync.OnceValues(func() (*jsonschema.Schema, error) {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("schema %.60s: %w", text, err)
		}
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft7)
		c.AssertFormat()
		if err := c.AddResource("request.json", doc); err != nil {
			return nil, err
		}
		return c.Compile("request.json")
	})}
}

// Check compiles the schema now; tests call it for every route.
func (s Schema) Check() error { _, err := s.compile(); return err }

// Validate checks a document that a request has made.
func (s Schema) Validate(doc []byte) error { return s.validateBody(doc) }

func pick(list []Schema, v Version) *Schema {
	for i := range list {
		if v.In(list[i].Min, list[i].Max) {
			return &list[i]
		}
	}
	return nil
}

// validateBody checks a JSON body and says what is wrong in the words of nova's
// api/validation: "Invalid input for field/attribute name. Value: x. ...".
func (s *Schema) validateBody(body []byte) error {
	c, err := s.compile()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return errs.Invalidf("Malformed request body: it is not valid JSON")
	}
	return explain(c.Validate(doc), doc)
}

func (s *Schema) validateQuery(q url.Values) error {
	c, err := s.compile()
	if err != nil {
		return err
	}
	doc := map[string]any{}
	for k, list := range q {
		items := make([]any, len(list))
		for i, v := range list {
			items[i] = v
		}
		doc[k] = items
	}
	return explain(c.Validate(doc), doc)
}

func explain(err error, doc any) error {
	if err == nil {
		return nil
	}
	v, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return err
	}
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	text := v.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	if len(v.InstanceLocation) == 0 {
		return errs.Invalidf("Invalid input: %s", text)
	}
	value, _ := json.Marshal(lookup(doc, v.InstanceLocation))
	if len(value) > 200 {
		value = append(value[:200], "..."...)
	}
	return errs.Invalidf("Invalid input for field/attribute %s. Value: %s. %s", v.InstanceLocation[len(v.InstanceLocation)-1], value, text)
}

func lookup(doc any, path []string) any {
	for _, p := range path {
		switch d := doc.(type) {
		case map[string]any:
			doc = d[p]
		case []any:
			var i int
			if _, err := fmt.Sscan(p, &i); err != nil || i < 0 || i >= len(d) {
				return nil
			}
			doc = d[i]
		}
	}
	return doc
}
