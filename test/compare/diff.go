package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// difference is one thing in which two answers to the same request differ.
type difference struct {
	key  string // of the request
	kind string // status, header, missing, extra, type, value, length, text
	at   string // header or path of keys
	a, b string
}

// diffAll compares two runs of the same scripts.
func diffAll(a, b []exchange) []difference {
	other := map[string]exchange{}
	for _, x := range b {
		other[x.Key] = x
	}
	var out []difference
	for _, x := range a {
		y, ok := other[x.Key]
		if !ok {
			out = append(out, difference{x.Key, "missing", "request", "sent", "not sent"})
			continue
		}
		d := &differ{key: x.Key, seen: map[difference]bool{}}
		d.exchange(x, y)
		out = append(out, d.out...)
	}
	return out
}

type differ struct {
	key  string
	seen map[difference]bool
	out  []difference
}

func (d *differ) add(kind, at, a, b string) {
	x := difference{d.key, kind, at, clip(a), clip(b)}
	if !d.seen[x] {
		d.seen[x] = true
		d.out = append(d.out, x)
	}
}

func clip(s string) string {
	if len(s) > 240 {
		return s[:240] + "…"
	}
	return s
}

func (d *differ) exchange(a, b exchange) {
	if a.Status != b.Status {
		d.add("status", "", fmt.Sprintf("%d %s", a.Status, canonical(a.Body)), fmt.Sprintf("%d %s", b.Status, canonical(b.Body)))
		return
	}
	for _, h := range headers() {
		if x, y := a.Header[h], b.Header[h]; !sameHeader(h, x, y) {
			d.add("header", h, x, y)
		}
	}
	d.value("", a.Body, b.Body)
}

// sameHeader overlooks blanks and letter case in media types and the order of Vary.
func sameHeader(name, a, b string) bool {
	switch name {
	case "Content-Type":
		fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
		return fold(a) == fold(b)
	case "Www-Authenticate":
		// Where identity lives is the operator's choice, with or without the version.
		return strings.ReplaceAll(a, "/v3", "") == strings.ReplaceAll(b, "/v3", "")
	case "Vary":
		split := func(s string) []string {
			parts := strings.Split(strings.ToLower(strings.ReplaceAll(s, " ", "")), ",")
			slices.Sort(parts)
			return slices.Compact(parts)
		}
		return slices.Equal(split(a), split(b))
	}
	return a == b
}

func (d *differ) value(at string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			d.add("type", at, kind(a), kind(b))
			return
		}
		d.object(at, x, y)
	case []any:
		y, ok := b.([]any)
		if !ok {
			d.add("type", at, kind(a), kind(b))
			return
		}
		d.list(at, x, y)
	default:
		if kind(a) != kind(b) {
			d.add("type", at, canonical(a), canonical(b))
		} else if canonical(a) != canonical(b) && !message(at) {
			d.add("value", at, canonical(a), canonical(b))
		}
	}
}

func (d *differ) object(at string, a, b map[string]any) {
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[k]; !ok {
			d.add("missing", at+"."+k, canonical(a[k]), "")
			continue
		}
		d.value(at+"."+k, a[k], b[k])
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			d.add("extra", at+"."+k, "", canonical(b[k]))
		}
	}
}

func (d *differ) list(at string, a, b []any) {
	if len(a) == len(b) {
		for i := range a {
			d.value(at+"[]", a[i], b[i])
		}
		return
	}
	inA, inB := remove(a, b), remove(b, a)
	d.add("length", at, fmt.Sprintf("%d, alone %s", len(a), canonical(inA)), fmt.Sprintf("%d, alone %s", len(b), canonical(inB)))
}

// remove is what of a list is not in another.
func remove(list, other []any) []any {
	var have []string
	for _, o := range other {
		have = append(have, canonical(o))
	}
	var out []any
	for _, v := range list {
		if !slices.Contains(have, canonical(v)) {
			out = append(out, v)
		}
	}
	return out
}

// message tells whether a path holds prose for people.
func message(at string) bool {
	return strings.HasSuffix(at, ".message") || strings.HasSuffix(at, ".detail") || strings.HasSuffix(at, ".description") && strings.Contains(at, "extension") || at == ""
}

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case map[string]any:
		return "object"
	case []any:
		return "list"
	}
	return "number"
}
