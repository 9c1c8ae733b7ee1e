package policy

import (
	"fmt"
	"os"
	"sort"

	"gopkg.in/yaml.v3"

	"github.com/strata-cloud/strata/internal/errs"
)

// Target is what a rule's %(name)s refer to: attributes of the resource, such
// as "project_id" or "target.user.domain_id".
type Target map[string]string

// Rule is a named default.
type Rule struct {
	Name  string // upstream's name, such as "os_compute_api:servers:show"
	Check string // expression
}

// Engine holds the parsed rules. It is read-only after New and safe for concurrent use.
type Engine struct {
	rules map[string]check
	text  map[string]string
}

// New parses the defaults of all services, then the overrides of the file, which
// may be absent. An override of a rule that no service declares is an error, as
// it would silently protect nothing.
func New(overrides string, defaults ...[]Rule) (*Engine, error) {
	e := &Engine{rules: map[string]check{}, text: map[string]string{}}
	for _, group := range defaults {
		for _, r := range group {
			if err := e.set(r.Name, r.Check); err != nil {
				return nil, err
			}
		}
	}
	if overrides == "" {
		return e, nil
	}
	raw, err := os.ReadFile(overrides)
	if os.IsNotExist(err) {
		return e, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading policy overrides: %w", err)
	}
	changed := map[string]string{}
	if err := yaml.Unmarshal(raw, &changed); err != nil {
		return nil, fmt.Errorf("%s: %w", overrides, err)
	}
	for name, expr := range changed {
		if _, known := e.rules[name]; !known {
			return nil, fmt.Errorf("%s: no rule is called %q; see docs/policy.md for the names", overrides, name)
		}
		if err := e.set(name, expr); err != nil {
			return nil, fmt.Errorf("%s: %w", overrides, err)
		}
	}
	return e, nil
}

func (e *Engine) set(name, expr string) error {
	k, err := parse(expr)
	if err != nil {
		return fmt.Errorf("rule %s: %w", name, err)
	}
	e.rules[name], e.text[name] = k, expr
	return nil
}

// Allows tells whether the rule lets c act on the target. An unknown rule refuses.
func (e *Engine) Allows(name string, c *Credentials, t Target) bool {
	k, ok := e.rules[name]
	return ok && c != nil && k.eval(e, c, t, 0)
}

// Enforce is Allows with upstream's words for the refusal.
func (e *Engine) Enforce(name string, c *Credentials, t Target) error {
	if e.Allows(name, c, t) {
		return nil
	}
	return errs.Forbiddenf("Policy doesn't allow %s to be performed.", name)
}

// Has tells whether a rule is declared.
func (e *Engine) Has(name string) bool { _, ok := e.rules[name]; return ok }

// Rules lists every rule with its expression in force, by name.
func (e *Engine) Rules() []Rule {
	out := make([]Rule, 0, len(e.text))
	for n, x := range e.text {
		out = append(out, Rule{n, x})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
