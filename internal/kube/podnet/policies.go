package podnet

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/netpolicy"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// guard keeps the rules of the cluster's policies true. They are a table of their own, which
// is left alone until all policies are known: an agent that starts opens nothing.
type guard struct {
	feed  *netpolicy.Feed
	by    nodeapi.KubeWorker // whose words it was made of
	end   context.CancelFunc
	group sync.WaitGroup

	mu    sync.Mutex
	table *nft.Table // that the kernel has; nil: not known
}

func (n *Network) policyTable() string { return "strata-policies-" + n.cfg.Name }

// follow has policies enforced, with the identity that the node has now.
func (l *live) follow(ctx context.Context) error {
	w := *l.part().Worker
	by := nodeapi.KubeWorker{URL: w.URL, CA: w.CA, Policies: w.Policies}
	before := l.guarded()
	if before != nil && reflect.DeepEqual(before.by, by) || len(by.Policies.Cert) == 0 {
		return nil
	}
	feed, err := netpolicy.NewFeed(by.URL, by.CA, by.Policies.Cert, by.Policies.Key, l.cfg.Log)
	if err != nil {
		return fmt.Errorf("following policies: %w", err)
	}
	if before != nil {
		before.close()
	}
	g := &guard{feed: feed, by: by}
	ctx, g.end = context.WithCancel(context.WithoutCancel(ctx))
	g.group.Go(func() { feed.Run(ctx) })
	g.group.Go(func() { l.keepPolicies(ctx, g) })
	l.mu.Lock()
	l.guard = g
	l.mu.Unlock()
	return nil
}

func (g *guard) close() {
	g.end()
	g.group.Wait()
}

func (l *live) guarded() *guard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guard
}

// policiesAgain is the pause after rules could not be written, policiesPause the one after
// they were: in a cluster where something always changes, not each change is worth the work.
const (
	policiesAgain = time.Second
	policiesPause = 100 * time.Millisecond
)

// keepPolicies writes rules whenever something changes, until ctx ends.
func (l *live) keepPolicies(ctx context.Context, g *guard) {
	for ctx.Err() == nil {
		_, _, changed := g.feed.State()
		later, pause := (<-chan time.Time)(nil), time.After(policiesPause)
		if err := l.enforce(ctx, g); err != nil && ctx.Err() == nil {
			l.cfg.Log.Error("policies of pods are not enforced", "cluster", l.cluster, "err", err)
			later = time.After(policiesAgain)
		}
		select {
		case <-changed:
		case <-later:
		case <-ctx.Done():
		}
		select {
		case <-pause:
		case <-ctx.Done():
		}
	}
}

// enforce brings the kernel's rules to what policies say now, in one transaction.
func (l *live) enforce(ctx context.Context, g *guard) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	state, known, _ := g.feed.State()
	if !known {
		return nil
	}
	var pods []netpolicy.Local
	for _, p := range l.all() {
		a, err := p.Port.IPv4()
		if err != nil || p.Gone {
			continue
		}
		x := netpolicy.Local{Namespace: p.Namespace, Name: p.Name, Device: hostDevice(p.Port.ID), Addrs: []netip.Addr{a}}
		if a := l.inside6(&p.Port); a.IsValid() {
			x.Addrs = append(x.Addrs, a)
		}
		pods = append(pods, x)
	}
	return replace(ctx, l.cfg.Host, &g.table, netpolicy.Compile(l.policyTable(), &state, pods, l.dual()))
}

// admitLimit bounds how long a pod waits until policies are known, and the pod itself.
const admitLimit = 20 * time.Second

// admit has the policies that are about a pod enforced, before it has a network.
func (l *live) admit(ctx context.Context, p *Pod) error {
	g := l.guarded()
	if g == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, admitLimit)
	defer cancel()
	for {
		state, known, changed := g.feed.State()
		if x := state.Pods[p.Namespace+"/"+p.Name]; known && x != nil && (p.UID == "" || p.UID == x.Metadata.UID) {
			return l.enforce(ctx, g)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "the policies for pod %s/%s are not known yet: %w", p.Namespace, p.Name, ctx.Err())
		}
	}
}
