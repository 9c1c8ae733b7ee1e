package placement

import (
	"encoding/json"
	"maps"
	"slices"
)

// offer is one set of allocations that would satisfy a question.
type offer struct {
	held      map[string]map[string]int64 // provider -> class -> amount
	order     []string                    // the keys of held as they were chosen
	mappings  map[string][]string         // suffix -> providers
	providers map[string]*Provider
}

// Bounds on a search: trees with many alternatives multiply.
const (
	maxOffers = 10_000
	maxSteps  = 1_000_000
)

// sharesTrait marks providers that give to all with whom they share an aggregate.
const sharesTrait = "MISC_SHARES_VIA_AGGREGATE"

// search finds the offers tree by tree, in the order in which the trees were made.
func (s *Service) search(q *question) []offer {
	all := map[string]*Provider{}
	trees := map[string][]*Provider{}
	var roots, sharing []*Provider
	for _, p := range s.providers.All() {
		if p.Parent != "" && !q.nested {
			continue
		}
		all[p.UUID] = p
		trees[p.Root] = append(trees[p.Root], p)
		if p.Parent == "" {
			roots = append(roots, p)
		}
		if p.trait(sharesTrait) {
			sharing = append(sharing, p)
		}
	}
	slices.SortStableFunc(roots, func(a, b *Provider) int { return a.Created.Compare(b.Created) })
	f := &finder{q: q, all: all, seen: map[string]bool{}}
	for _, root := range roots {
		if f.full() {
			break
		}
		if q.root.hasTraits(root.trait) {
			f.tree(withSharing(trees[root.UUID], sharing))
		}
	}
	return f.found
}

// withSharing adds the sharing providers that are tied to the tree by an aggregate.
func withSharing(tree, sharing []*Provider) []*Provider {
	out := slices.Clone(tree)
	for _, sp := range sharing {
		if slices.ContainsFunc(tree, func(p *Provider) bool { return p.UUID == sp.UUID }) {
			continue
		}
		if slices.ContainsFunc(tree, func(p *Provider) bool {
			return slices.ContainsFunc(p.Aggregates, func(a string) bool { return slices.Contains(sp.Aggregates, a) })
		}) {
			out = append(out, sp)
		}
	}
	return out
}

// finder enumerates the ways to satisfy all groups from one tree after the other.
type finder struct {
	q     *question
	all   map[string]*Provider
	found []offer
	seen  map[string]bool
	steps int
}

func (f *finder) full() bool {
	limit := maxOffers
	if f.q.limit > 0 {
		limit = min(limit, f.q.limit)
	}
	return len(f.found) >= limit || f.steps > maxSteps
}

// pick is one decision: these amounts for the group from this provider.
type pick struct {
	suffix    string
	provider  *Provider
	resources map[string]int64
}

// slot is one decision to be made, with what may be chosen.
type slot []pick

// tree makes the slots of all groups over the providers, and enumerates.
func (f *finder) tree(providers []*Provider) {
	var slots []slot
	for _, g := range f.q.groups {
		if g.suffix != "" {
			slots = append(slots, f.granular(g, providers))
			continue
		}
		for _, class := range slices.Sorted(maps.Keys(g.resources)) {
			slots = append(slots, f.spread(g, class, providers))
		}
	}
	f.choose(slots, nil)
}

func (f *finder) inTree(g group, p *Provider) bool {
	if g.inTree == "" {
		return true
	}
	t := f.all[g.inTree]
	return t != nil && t.Root == p.Root
}

// granular lists the providers that satisfy the group alone.
func (f *finder) granular(g group, providers []*Provider) (out slot) {
	for _, p := range providers {
		if f.inTree(g, p) && p.fits(g.resources) == nil && g.hasTraits(p.trait) && g.inAggregates(p.Aggregates, nil) {
			out = append(out, pick{g.suffix, p, g.resources})
		}
	}
	return out
}

// spread lists the providers that can give one class of the group without suffix.
// The traits that it requires are judged when all its providers are known.
func (f *finder) spread(g group, class string, providers []*Provider) (out slot) {
	want := map[string]int64{class: g.resources[class]}
	forbidden := wish{forbidden: g.forbidden}
	for _, p := range providers {
		var ofRoot []string
		if root := f.all[p.Root]; root != nil {
			ofRoot = root.Aggregates
		}
		if f.inTree(g, p) && p.fits(want) == nil && forbidden.hasTraits(p.trait) && g.inAggregates(p.Aggregates, ofRoot) {
			out = append(out, pick{g.suffix, p, want})
		}
	}
	return out
}

func (f *finder) choose(slots []slot, picked []pick) {
	if f.full() {
		return
	}
	if len(slots) == 0 {
		f.accept(picked)
		return
	}
	for _, p := range slots[0] {
		f.steps++
		f.choose(slots[1:], append(picked[:len(picked):len(picked)], p))
	}
}

// accept checks what only the whole choice tells, and keeps it.
func (f *finder) accept(picked []pick) {
	o := offer{held: map[string]map[string]int64{}, mappings: map[string][]string{}, providers: map[string]*Provider{}}
	for _, c := range picked {
		id := c.provider.UUID
		if o.held[id] == nil && len(c.resources) > 0 {
			o.held[id] = map[string]int64{}
			o.order = append(o.order, id)
		}
		for class, n := range c.resources {
			o.held[id][class] += n
		}
		o.providers[id] = c.provider
		if !slices.Contains(o.mappings[c.suffix], id) {
			o.mappings[c.suffix] = append(o.mappings[c.suffix], id)
		}
	}
	for id, resources := range o.held {
		if !o.providers[id].roomFor(resources) {
			return
		}
	}
	if !f.unsuffixedTraits(o) || f.q.isolate && !isolated(o) || !f.sameSubtrees(o) {
		return
	}
	key, err := json.Marshal([]any{o.held, o.mappings})
	if err != nil || f.seen[string(key)] {
		return
	}
	f.seen[string(key)] = true
	f.found = append(f.found, o)
}

// roomFor judges the sum of several groups: only the largest unit and the
// capacity can be broken by adding.
func (p *Provider) roomFor(want map[string]int64) bool {
	for class, n := range want {
		if i := p.Inventories[class]; n > i.MaxUnit || p.Used[class]+n > i.Capacity() {
			return false
		}
	}
	return true
}

// unsuffixedTraits: together the providers of the group have what it requires.
func (f *finder) unsuffixedTraits(o offer) bool {
	g := f.q.groups[0]
	if g.suffix != "" {
		return true
	}
	needed := wish{required: g.required}
	return needed.hasTraits(func(t string) bool {
		return slices.ContainsFunc(o.mappings[""], func(id string) bool { return o.providers[id].trait(t) })
	})
}

// isolated: no two groups with a suffix are satisfied by the same provider.
func isolated(o offer) bool {
	used := map[string]bool{}
	for suffix, ids := range o.mappings {
		for _, id := range ids {
			if suffix != "" && used[id] {
				return false
			}
			used[id] = used[id] || suffix != ""
		}
	}
	return true
}

// sameSubtrees: the providers of each set of groups lie under one of themselves.
func (f *finder) sameSubtrees(o offer) bool {
	for _, suffixes := range f.q.subtrees {
		var ids []string
		for _, suffix := range suffixes {
			ids = append(ids, o.mappings[suffix]...)
		}
		top := slices.ContainsFunc(ids, func(top string) bool {
			return !slices.ContainsFunc(ids, func(id string) bool { return !f.under(id, top) })
		})
		if !top {
			return false
		}
	}
	return true
}

func (f *finder) under(id, top string) bool {
	for id != top {
		p := f.all[id]
		if p == nil || p.Parent == "" {
			return false
		}
		id = p.Parent
	}
	return true
}
