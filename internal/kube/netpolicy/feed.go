package netpolicy

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// Feed is what a cluster's API has of namespaces, pods and policies, kept current.
type Feed struct {
	api *kubeapi.Client
	log *slog.Logger

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed at a change
}

// NewFeed makes one of an API: whom to trust, and who we are, in PEM.
func NewFeed(api string, ca, cert, key []byte, log *slog.Logger) (*Feed, error) {
	c, err := kubeapi.New(kubeapi.Config{Server: api, CA: ca, Certificate: cert, Key: key})
	if err != nil {
		return nil, err
	}
	return &Feed{api: c, log: log, changed: make(chan struct{})}, nil
}

// The kinds that are followed.
var policies = kubeapi.Kind{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Plural: "networkpolicies"}

// Run follows the API until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	defer f.api.Close()
	var group sync.WaitGroup
	group.Go(func() {
		follow(ctx, f, kubeapi.Namespaces, func(n *Namespace) *Meta { return &n.Metadata }, &f.state.Namespaces)
	})
	group.Go(func() { follow(ctx, f, kubeapi.Pods, func(p *Pod) *Meta { return &p.Metadata }, &f.state.Pods) })
	group.Go(func() { follow(ctx, f, policies, func(p *Policy) *Meta { return &p.Metadata }, &f.state.Policies) })
	group.Wait()
}

// State is what there is now, and whether all of it has been listed; changed is closed when
// there is more to know. Nothing of it is changed any more.
func (f *Feed) State() (s State, known bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.state.Namespaces != nil && f.state.Pods != nil && f.state.Policies != nil, f.changed
}

// follow keeps one kind current, in a map that is replaced whenever something changes.
func follow[T any](ctx context.Context, f *Feed, k kubeapi.Kind, meta func(*T) *Meta, into *map[string]*T) {
	told := ""
	failed := func(err error) {
		if err.Error() != told {
			f.log.Warn("what policies of pods depend on is not heard", "kind", k.Plural, "err", err)
			told = err.Error()
		}
	}
	for list := range kubeapi.Follow[*T](ctx, f.api, k, "", failed) {
		now := make(map[string]*T, len(list))
		for _, x := range list {
			now[meta(x).key()] = x
		}
		f.mu.Lock()
		*into = now
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
