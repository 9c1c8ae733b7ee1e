package compute

import (
	"context"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/reconcile"
	"github.com/strata-cloud/strata/internal/store"
)

const (
	// keepDeleted is how long a deleted server can still be listed.
	keepDeleted = 24 * time.Hour
	purgeEvery  = 10 * time.Minute
)

// Run keeps the records true to what the nodes observe and purges the deleted
// servers, until ctx ends. It may run on several members at once.
func (s *Service) Run(ctx context.Context) {
	follow := reconcile.New("compute.follow", s.Log, s.follow)
	purge := reconcile.New("compute.purge", s.Log, s.purge)
	purge.Resync = purgeEvery
	purge.List = func() []string { return s.expired(time.Now()) }
	forget := reconcile.New("compute.usage", s.Log, s.usages.Forget)
	forget.Resync = purgeEvery
	forget.List = func() []string { return s.usages.Expired(time.Now()) }
	tokens := reconcile.New("compute.consoles", s.Log, func(ctx context.Context, _ string) error { return s.consoles.Sweep(ctx) })
	tokens.Resync = purgeEvery
	tokens.List = func() []string { return []string{"tokens"} }
	reclaim := reconcile.New("compute.reclaim", s.Log, s.reclaim)
	reclaim.Resync = min(max(s.ReclaimAfter, time.Second), time.Minute)
	reclaim.List = func() []string { return s.reclaimable(time.Now()) }
	guests := reconcile.New("compute.guests", s.Log, s.refreshGuest)
	revive := reconcile.New("compute.revive", s.Log, s.revive)
	revive.Resync = reviveEvery
	revive.List = func() []string { return []string{"hosts"} }
	var group sync.WaitGroup
	group.Go(func() { forget.Run(ctx) })
	group.Go(func() { tokens.Run(ctx) })
	if s.ReclaimAfter > 0 {
		group.Go(func() { reclaim.Run(ctx) })
	}
	group.Go(func() { guests.Run(ctx) })
	group.Go(func() { revive.Run(ctx) })
	group.Go(func() {
		for id := range s.Networks.Readdressed(ctx) {
			guests.Add(id)
		}
	})
	group.Go(func() { follow.Run(ctx) })
	group.Go(func() { purge.Run(ctx) })
	group.Go(func() {
		for ev := range s.Nodes.Statuses.Watch(ctx) {
			if ev.New != nil {
				follow.Add(ev.ID)
			}
		}
	})
	// A server may change under a saga when its status already has: look again when the saga has ended.
	group.Go(func() {
		for ev := range s.servers.Watch(ctx) {
			if ev.New != nil && ev.New.TaskState == "" {
				follow.Add(ev.ID)
			}
		}
	})
	group.Wait()
}

// follow makes the record follow what the node observes of a server that no saga
// is working on: a guest that shut itself down is stopped, not to be restarted,
// and what a node has removed for a server deleted while it was away is forgotten.
func (s *Service) follow(ctx context.Context, id string) error {
	st, err := s.Nodes.Statuses.Get(id)
	if err != nil {
		return nil
	}
	v, err := s.servers.Get(id)
	if err != nil || v.DeletedAt != nil || v.Host == "" {
		if st.Gone {
			return s.Nodes.Forget(ctx, id)
		}
		return nil
	}
	// With a task under way its saga decides; its end is a change of the server.
	if v.VMState != Active || v.TaskState != "" || st.Gen < v.Gen {
		return nil
	}
	if st.Power != nodeapi.PowerStopped && st.Power != nodeapi.PowerCrashed {
		return s.halted(ctx, v, st.Power == nodeapi.PowerPaused)
	}
	return s.stopped(ctx, id, st.Gen)
}

// halted writes whether the guest stands still though nobody paused it.
func (s *Service) halted(ctx context.Context, v *Server, halted bool) error {
	if v.Halted == halted {
		return nil
	}
	err := s.update(ctx, v.ID, func(v *Server) error { v.Halted = halted; return nil })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// stopped writes that the server stopped by itself, wanted from now on.
func (s *Service) stopped(ctx context.Context, id string, seen int64) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if err != nil || v.VMState != Active || v.TaskState != "" || v.Gen != seen {
			return nil // something has been asked of it since
		}
		if _, err := s.orderTx(tx, id, func(_ *Server, i *nodeapi.Instance) error { i.Power = nodeapi.PowerStopped; return nil }); err != nil {
			return err
		}
		_, err = s.servers.TxUpdate(tx, id, func(v *Server) error {
			v.VMState, v.Updated = Stopped, wire.Now()
			return nil
		})
		return err
	})
}

// expired lists the servers whose time after deletion is over.
func (s *Service) expired(at time.Time) []string {
	var out []string
	for _, v := range s.servers.By("deleted", "yes") {
		if v.DeletedAt.Add(keepDeleted).Before(at) {
			out = append(out, v.ID)
		}
	}
	return out
}

// purge drops a deleted server and the log of what was done to it.
func (s *Service) purge(ctx context.Context, id string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if errs.Is(err, errs.NotFound) || err == nil && v.DeletedAt == nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Sagas.Forget(tx, id); err != nil {
			return err
		}
		if err := s.moves.Forget(tx, id); err != nil {
			return err
		}
		if u, ran := usageOf(v); ran {
			if err := s.usages.Keep(tx, &u); err != nil {
				return err
			}
		}
		return s.servers.TxDelete(tx, id)
	})
}
