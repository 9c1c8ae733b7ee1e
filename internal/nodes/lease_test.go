package nodes

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// run writes an instance with high availability and what its node says of it.
func run(t *testing.T, r *Registry, i nodeapi.Instance, leased bool) {
	t.Helper()
	err := r.db.Txn(t.Context(), func(tx *store.Tx) error {
		if err := r.Instances.TxPut(tx, &i); err != nil {
			return err
		}
		return r.Statuses.TxPut(tx, &nodeapi.InstanceStatus{ID: i.ID, Node: "a", Gen: i.Gen, Power: i.Power, Leased: leased})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		ask := func(node string) []string {
			t.Helper()
			l, err := r.Lease(t.Context(), node)
			if err != nil || l.TTL != LeaseTTL {
				t.Fatalf("the lease of %s: %+v, %v", node, l, err)
			}
			return l.Servers
		}
		if _, err := r.Lease(t.Context(), "a"); !errs.Is(err, errs.Unavailable) || r.Dead("a") {
			t.Errorf("before this member leads: %v, dead %v", err, r.Dead("a"))
		}
		run(t, r, nodeapi.Instance{ID: "ha", Node: "a", HA: true}, true)
		run(t, r, nodeapi.Instance{ID: "plain", Node: "a"}, false)
		run(t, r, nodeapi.Instance{ID: "was", Node: "a"}, true) // its node has not heard yet
		run(t, r, nodeapi.Instance{ID: "elsewhere", Node: "b", HA: true}, true)
		run(t, r, nodeapi.Instance{ID: "gone", Node: "a", HA: true, Deleted: true}, true)
		if !r.UnderLease("ha") || r.UnderLease("plain") || r.UnderLease("elsewhere") {
			t.Error("what runs under a lease is not what its own node says")
		}
		r.BeginLeases()
		// Whoever begins to grant takes everything to have been granted just before.
		whole := LeaseTTL + LeaseMargin
		<-time.After(whole)
		if r.Dead("a") || r.Free("a", "ha") {
			t.Error("given up before an earlier lease could be over")
		}
		<-time.After(time.Millisecond)
		if !r.Dead("a") || !r.Free("a", "ha") {
			t.Error("not given up after the longest lease")
		}
		got := ask("a")
		slices.Sort(got)
		if want := []string{"ha", "was"}; !slices.Equal(got, want) {
			t.Errorf("granted %v, want %v", got, want)
		}
		if r.Dead("a") || r.Free("a", "ha") || !r.Dead("b") {
			t.Error("a grant is not noted")
		}
		// Without the server in it a later grant does not count for it.
		<-time.After(whole / 2)
		run(t, r, nodeapi.Instance{ID: "ha", Node: "a", HA: true, Revoked: true}, true)
		if got := ask("a"); !slices.Equal(got, []string{"was"}) {
			t.Errorf("granted %v after ha was revoked", got)
		}
		<-time.After(whole/2 + time.Millisecond)
		if r.Dead("a") || !r.Free("a", "ha") || r.Free("a", "was") {
			t.Errorf("dead %v, ha free %v, was free %v", r.Dead("a"), r.Free("a", "ha"), r.Free("a", "was"))
		}
		r.EndLeases()
		<-time.After(10 * whole)
		if r.Dead("a") {
			t.Error("a member that does not lead calls a node dead")
		}
		r.BeginLeases()
		if r.Dead("a") || r.Free("a", "ha") {
			t.Error("a member that leads again goes by what it knew before")
		}
	})
}
