package policy

import (
	"fmt"
	"strings"
)

// check is a parsed expression.
type check interface {
	eval(e *Engine, c *Credentials, t Target, depth int) bool
}

type (
	constant bool
	not      struct{ of check }
	all      []check
	anyOf    []check
	role     string
	rule     string
	generic  struct{ left, right string } // right may be %(name)s; left a literal in quotes or an attribute
)

func (k constant) eval(*Engine, *Credentials, Target, int) bool { return bool(k) }

func (k not) eval(e *Engine, c *Credentials, t Target, d int) bool { return !k.of.eval(e, c, t, d) }

func (k all) eval(e *Engine, c *Credentials, t Target, d int) bool {
	for _, x := range k {
		if !x.eval(e, c, t, d) {
			return false
		}
	}
	return true
}

func (k anyOf) eval(e *Engine, c *Credentials, t Target, d int) bool {
	for _, x := range k {
		if x.eval(e, c, t, d) {
			return true
		}
	}
	return false
}

func (k role) eval(_ *Engine, c *Credentials, _ Target, _ int) bool { return c.HasRole(string(k)) }

// maxDepth bounds rules that refer to each other in a circle.
const maxDepth = 32

func (k rule) eval(e *Engine, c *Credentials, t Target, d int) bool {
	x, ok := e.rules[string(k)]
	return ok && d < maxDepth && x.eval(e, c, t, d+1)
}

func (k generic) eval(_ *Engine, c *Credentials, t Target, _ int) bool {
	right := k.right
	if name, ok := strings.CutPrefix(right, "%("); ok {
		v, ok := t[strings.TrimSuffix(name, ")s")]
		if !ok {
			return false
		}
		right = v
	}
	if len(k.left) > 1 && (k.left[0] == '\'' || k.left[0] == '"') {
		return k.left[1:len(k.left)-1] == right
	}
	if k.left == "None" || k.left == "True" || k.left == "False" {
		return k.left == right || (k.left == "None" && right == "")
	}
	v, ok := c.attribute(k.left)
	// What the token does not have is Python's None upstream: "not domain_id:None".
	return ok && (v == right || v == "" && right == "None")
}

// parse turns an expression into a check; an empty one always allows, as in oslo.policy.
func parse(expr string) (check, error) {
	p := &parser{tokens: tokenize(expr)}
	if len(p.tokens) == 0 {
		return constant(true), nil
	}
	k, err := p.or()
	if err != nil {
		return nil, fmt.Errorf("policy expression %q: %w", expr, err)
	}
	if p.at < len(p.tokens) {
		return nil, fmt.Errorf("policy expression %q: unexpected %q", expr, p.tokens[p.at])
	}
	return k, nil
}

// tokenize splits at blanks and at parentheses that do not belong to a %(name)s.
func tokenize(expr string) []string {
	var out []string
	for _, word := range strings.Fields(expr) {
		for strings.HasPrefix(word, "(") {
			out, word = append(out, "("), word[1:]
		}
		closing := 0
		for strings.HasSuffix(word, ")") {
			word, closing = word[:len(word)-1], closing+1
		}
		if word != "" {
			out = append(out, word)
		}
		for ; closing > 0; closing-- {
			out = append(out, ")")
		}
	}
	return out
}

type parser struct {
	tokens []string
	at     int
}

func (p *parser) take(word string) bool {
	if p.at < len(p.tokens) && strings.EqualFold(p.tokens[p.at], word) {
		p.at++
		return true
	}
	return false
}

func (p *parser) or() (check, error) {
	k, err := p.and()
	list := anyOf{k}
	for err == nil && p.take("or") {
		k, err = p.and()
		list = append(list, k)
	}
	if len(list) == 1 {
		return list[0], err
	}
	return list, err
}

func (p *parser) and() (check, error) {
	k, err := p.unary()
	list := all{k}
	for err == nil && p.take("and") {
		k, err = p.unary()
		list = append(list, k)
	}
	if len(list) == 1 {
		return list[0], err
	}
	return list, err
}

func (p *parser) unary() (check, error) {
	if p.take("not") {
		k, err := p.unary()
		return not{k}, err
	}
	if p.take("(") {
		k, err := p.or()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("missing )")
		}
		return k, err
	}
	if p.at == len(p.tokens) {
		return nil, fmt.Errorf("ends too early")
	}
	p.at++
	return leaf(p.tokens[p.at-1])
}

func leaf(word string) (check, error) {
	switch word {
	case "@":
		return constant(true), nil
	case "!":
		return constant(false), nil
	}
	// A quoted or dotted left side may not hold a colon, so the first one divides.
	left, right, ok := strings.Cut(word, ":")
	if !ok || left == "" {
		return nil, fmt.Errorf("%q is not KIND:MATCH", word)
	}
	switch left {
	case "role":
		return role(right), nil
	case "rule":
		return rule(right), nil
	}
	return generic{left, right}, nil
}

func equalFold(a, b string) bool { return a == b || strings.EqualFold(a, b) }
