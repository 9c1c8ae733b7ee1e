package nodes

import (
	"context"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

const (
	// LeaseTTL is how long a node may run servers with high availability after it
	// asked for a lease.
	LeaseTTL = 15 * time.Second
	// LeaseMargin is how much longer they are taken to run: what a node needs to end
	// them, and what its clock may be slower than ours.
	LeaseMargin = 5 * time.Second
)

// leases is who was granted what, and when. It is kept in memory alone: whoever
// begins to grant assumes that everything was granted a moment before.
type leases struct {
	mu      sync.Mutex
	begun   time.Time // zero: another member grants, or none
	nodes   map[string]time.Time
	servers map[leased]time.Time
}

type leased struct{ node, server string }

// BeginLeases makes this member the one that grants leases: call it when it leads,
// and EndLeases before another can.
func (r *Registry) BeginLeases() {
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	r.leases.begun, r.leases.nodes, r.leases.servers = time.Now(), map[string]time.Time{}, map[leased]time.Time{}
}

// EndLeases ends what BeginLeases began.
func (r *Registry) EndLeases() {
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	r.leases.begun = time.Time{}
}

// Lease grants the node what it may run. The list is made and noted in one step, so
// that after a commit that revokes a server Free knows of every grant that did not
// see the commit.
//
// That this member leads is asked of the store, since one that stood still for a while
// may not know that another leads. A lease counts from before this question, and who
// leads next begins after it.
func (r *Registry) Lease(ctx context.Context, node string) (nodeapi.Lease, error) {
	if err := r.db.Leads(ctx); err != nil {
		return nodeapi.Lease{}, err
	}
	l := &r.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun.IsZero() {
		return nodeapi.Lease{}, errs.New(errs.Unavailable, "this member of the control plane grants no leases")
	}
	now, out := time.Now(), nodeapi.Lease{TTL: LeaseTTL, Servers: []string{}}
	l.nodes[node] = now
	for _, i := range r.Instances.By("node", node) {
		if i.Deleted || i.Revoked || !i.HA && !r.underLease(i) {
			continue
		}
		out.Servers = append(out.Servers, i.ID)
		l.servers[leased{node, i.ID}] = now
	}
	for k, at := range l.servers {
		if k.node == node && now.Sub(at) > LeaseTTL+LeaseMargin {
			delete(l.servers, k)
		}
	}
	return out, nil
}

// underLease tells whether the node of an instance ends it when its lease runs out.
func (r *Registry) underLease(i *nodeapi.Instance) bool {
	st, err := r.Statuses.Get(i.ID)
	return err == nil && st.Leased && st.Node == i.Node
}

// UnderLease tells whether the node that has the server ends it when its lease has run out.
func (r *Registry) UnderLease(server string) bool {
	i, err := r.Instances.Get(server)
	return err == nil && r.underLease(i)
}

// Dead tells whether the node asked for no lease for so long that nothing runs there
// that runs under one.
func (r *Registry) Dead(node string) bool {
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	return r.leases.over(r.leases.nodes[node])
}

// Free tells whether the server's lease on the node has run out. It is for servers
// that UnderLease is true of.
func (r *Registry) Free(node, server string) bool {
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	return r.leases.over(r.leases.servers[leased{node, server}])
}

func (l *leases) over(granted time.Time) bool {
	if l.begun.IsZero() {
		return false
	}
	if granted.Before(l.begun) {
		granted = l.begun
	}
	return time.Since(granted) > LeaseTTL+LeaseMargin
}
