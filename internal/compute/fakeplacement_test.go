package compute

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
)

func providerOf(host string) string { return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(host)).String() }

type claim struct {
	host string
	need Resources
}

// fakePlacement counts what is free on each host.
type fakePlacement struct {
	mu   sync.Mutex
	free map[string]Resources
	held map[string]claim
	has  map[string][]string // traits
}

// left is what is free on the host now.
func (f *fakePlacement) left(host string) Resources {
	have := f.free[host]
	for _, c := range f.held {
		if c.host == host {
			have.VCPU, have.MemoryMiB, have.DiskGiB = have.VCPU-c.need.VCPU, have.MemoryMiB-c.need.MemoryMiB, have.DiskGiB-c.need.DiskGiB
		}
	}
	return have
}

func (f *fakePlacement) fits(host string, r Resources) bool {
	have := f.left(host)
	return have.VCPU >= r.VCPU && have.MemoryMiB >= r.MemoryMiB && have.DiskGiB >= r.DiskGiB
}

func (f *fakePlacement) Candidates(_ context.Context, r Resources, soon map[string]int) (iter.Seq[string], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, h := range slices.Sorted(maps.Keys(f.free)) {
		lacks := func(t string) bool { return !slices.Contains(f.has[h], t) }
		if f.fits(h, r) && !slices.ContainsFunc(r.RequiredTraits, lacks) && !slices.ContainsFunc(r.ForbiddenTraits, func(t string) bool { return !lacks(t) }) {
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return f.left(b).MemoryMiB - soon[b] - f.left(a).MemoryMiB + soon[a] })
	return slices.Values(out), nil
}

func (f *fakePlacement) Claim(_ context.Context, consumer, host, _, _ string, r Resources) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, consumer)
	if !f.fits(host, r) {
		return errs.New(errs.NoCapacity, "host %s is full", host)
	}
	f.held[consumer] = claim{host, r}
	return nil
}

func (f *fakePlacement) ClaimAll(_ context.Context, _, _ string, list ...Holding) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := maps.Clone(f.held)
	for _, h := range list {
		delete(f.held, h.Consumer)
	}
	for _, h := range list {
		if h.Host == "" {
			continue
		}
		if !f.fits(h.Host, h.Need) {
			f.held = before
			return errs.New(errs.NoCapacity, "host %s is full", h.Host)
		}
		f.held[h.Consumer] = claim{h.Host, h.Need}
	}
	return nil
}

func (f *fakePlacement) Release(_ context.Context, consumer string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, consumer)
	return nil
}

func (f *fakePlacement) consumers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.held))
}
