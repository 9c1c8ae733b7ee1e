package network

import (
	"time"

	"github.com/strata-cloud/strata/internal/network/attr"
)

const both = attr.Post | attr.Put

// bounds of what a user may send.
const (
	maxText     = 255
	maxHints    = 16
	maxFixedIPs = 5 // per port, upstream's max_fixed_ips_per_port
	maxPairs    = 10
	maxGroups   = 50
	maxRoutes   = 30
	maxServers  = 5  // dns_nameservers
	maxHost     = 20 // host_routes
	maxPools    = 32
	maxOptions  = 32
)

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// common are the standard attributes; named kinds have a name too.
func common[T any](base func(*T) *Base, named bool) []column[T] {
	cols := []column[T]{
		{Name: "id", Get: func(v *T, _ *call) any { return base(v).ID }},
		{Name: "tenant_id", Get: func(v *T, _ *call) any { return base(v).ProjectID }},
		{Name: "project_id", Get: func(v *T, _ *call) any { return base(v).ProjectID }},
		{Name: "description", In: both, Check: attr.NoneAs("", attr.String(maxText)), Default: "",
			Get: func(v *T, _ *call) any { return base(v).Description }, Set: func(v *T, x any) { base(v).Description = x.(string) }},
		{Name: "created_at", Get: func(v *T, _ *call) any { return stamp(base(v).Created) }},
		{Name: "updated_at", Get: func(v *T, _ *call) any { return stamp(base(v).Updated) }},
		{Name: "revision_number", Get: func(v *T, _ *call) any { return base(v).Revision }},
		{Name: "tags", NoFilter: true, NoSort: true, Get: func(v *T, _ *call) any { return list(base(v).Tags) }},
	}
	if named {
		cols = append(cols, column[T]{Name: "name", In: both, Check: attr.String(maxText), Default: "",
			Get: func(v *T, _ *call) any { return base(v).Name }, Set: func(v *T, x any) { base(v).Name = x.(string) }})
	}
	return cols
}

// list is never null on the wire.
func list[E any](l []E) []E {
	if l == nil {
		return []E{}
	}
	return l
}

// orNil shows "" as null.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// boolean is an attribute that is a flag of the record.
func boolean[T any](name string, in attr.Access, own string, def bool, at func(*T) *bool) column[T] {
	return column[T]{Name: name, In: in, Own: own, Check: attr.Bool, Default: def,
		Get: func(v *T, _ *call) any { return *at(v) }, Set: func(v *T, x any) { *at(v) = x.(bool) }}
}

// word is an attribute that is a text of the record.
func word[T any](name string, in attr.Access, own string, check attr.Check, at func(*T) *string) column[T] {
	return column[T]{Name: name, In: in, Own: own, Check: check, Default: "",
		Get: func(v *T, _ *call) any { return *at(v) }, Set: func(v *T, x any) { *at(v) = x.(string) }}
}

// hints is availability_zone_hints; availability_zones shows them or the only zone.
func zones[T any](at func(*T) *[]string) []column[T] {
	return []column[T]{
		{Name: "availability_zone_hints", In: attr.Post, Check: attr.NoneAs([]any{}, attr.Set(maxHints, attr.NotEmpty(maxText))), Default: []any{}, NoFilter: true, NoSort: true,
			Get: func(v *T, _ *call) any { return list(*at(v)) }, Set: func(v *T, x any) { *at(v) = attr.Of[string](x) }},
		{Name: "availability_zones", NoFilter: true, NoSort: true, Get: func(v *T, c *call) any {
			if h := *at(v); len(h) > 0 {
				return h
			}
			return c.zoneNames()
		}},
	}
}
