package compute

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// What switches high availability on: metadata of the server, by the name that
// upstream's Masakari looks for (masakari/conf/engine_driver.py), or an extra spec
// of its flavor. The server's own word counts more.
const (
	haKey  = "HA_Enabled"
	haSpec = "strata:ha"
)

const (
	reviveEvery = time.Second
	// reviveAtOnce is how many servers are evacuated at one time.
	reviveAtOnce = 4
	// What lies between an evacuation that failed and the next: at first, and at most.
	reviveFirst = 5 * time.Second
	reviveLast  = 5 * time.Minute
)

// ha tells whether the server is started elsewhere when its host is dead.
func (v *Server) ha() bool {
	val, ok := v.Metadata[haKey]
	if !ok {
		val = v.Flavor.ExtraSpecs[haSpec]
	}
	yes, _ := flavor.Bool(val)
	return yes
}

// revive evacuates the servers with high availability whose hosts are dead, and
// those that could not be started where an earlier evacuation took them.
func (s *Service) revive(ctx context.Context, _ string) error {
	room := reviveAtOnce - s.servers.Count("evacuating", "yes")
	var failed []error
	for _, v := range s.toRevive() {
		switch {
		case s.recovered(v):
			failed = append(failed, s.backAgain(ctx, v.ID))
		case room > 0 && s.due(v):
			room--
			failed = append(failed, s.beginRevive(ctx, v))
		}
	}
	return errors.Join(failed...)
}

// toRevive lists what cannot stay as it is, in the order of the servers' ages.
func (s *Service) toRevive() []*Server {
	var out []*Server
	for _, n := range s.Nodes.Infos.All() {
		if !s.Nodes.Dead(n.ID) {
			continue
		}
		for _, v := range s.servers.By("host", n.ID) {
			if v.ha() && v.evacuates() == nil && s.ranUnderLease(v) && !s.leaving(v) {
				out = append(out, v)
			}
		}
	}
	for _, v := range s.servers.By("stranded", "yes") {
		list := s.moves.Of(v.ID)
		if v.ha() && v.evacuates() == nil && len(list) > 0 && failedRevival(list[0]) && !s.Nodes.Dead(v.Host) && (list[0].Target == v.Host || s.recovered(v)) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *Server) int { return a.Created.Compare(b.Created) })
	return out
}

// ranUnderLease tells whether the server should run, and certainly does not: its host
// ended it with its lease. One that was off is not made anew: its disks are there.
func (s *Service) ranUnderLease(v *Server) bool {
	return s.Nodes.UnderLease(v.ID) && (v.VMState == Active || v.VMState == Errored && s.failedRevival(v))
}

// leaving tells whether the server is on its way to a host that cannot be asked
// whether it is there already.
func (s *Service) leaving(v *Server) bool {
	to := s.headedFor(v)
	if to == "" || to == v.Host {
		return false
	}
	_, err := s.Nodes.Conn(to)
	return err != nil
}

// failedRevival tells whether the last move of the server was an evacuation of ours that failed.
func (s *Service) failedRevival(v *Server) bool {
	list := s.moves.Of(v.ID)
	return len(list) > 0 && failedRevival(list[0])
}

func failedRevival(m *migration.Migration) bool {
	return m.Kind == migration.Evacuation && m.Automatic && (m.Status == migration.Failed || m.Status == migration.Broken)
}

// due tells whether the pause after the last failure is over.
func (s *Service) due(v *Server) bool {
	list := s.moves.Of(v.ID)
	n := 0
	for n < len(list) && failedRevival(list[n]) {
		n++
	}
	return n == 0 || time.Since(list[0].Updated) > min(reviveFirst<<min(n-1, 10), reviveLast)
}

// recovered tells whether the server that could not be evacuated runs on its host,
// which is back.
func (s *Service) recovered(v *Server) bool {
	st, err := s.Nodes.Statuses.Get(v.ID)
	return err == nil && v.VMState == Errored && !s.Nodes.Dead(v.Host) && st.Node == v.Host && st.Gen >= v.Gen && st.Fault == "" && st.Power == nodeapi.PowerRunning
}

func (s *Service) backAgain(ctx context.Context, id string) error {
	return s.update(ctx, id, func(v *Server) error {
		if v.VMState == Errored && v.TaskState == "" && v.Evacuation == "" {
			v.VMState, v.Fault, v.Updated = Active, nil, wire.Now()
		}
		return nil
	})
}

func (s *Service) beginRevive(ctx context.Context, v *Server) error {
	s.Log.Warn("a server is evacuated from a dead host", "server", v.ID, "node", v.Host)
	c := *s.Self()
	if c.UserID == "" {
		c.UserID = c.UserName
	}
	err := s.beginEvacuate(ctx, "req-"+uuid.NewString(), &c, v.ID, randomText(12), evacuateArgs{Migration: uuid.NewString(), Automatic: true})
	if errs.Is(err, errs.Conflict) {
		return nil // something else has begun
	}
	return err
}

// Waiting tells why servers with high availability are not evacuated from a host
// that is dead, by server.
func (s *Service) Waiting(host string) map[string]string {
	out := map[string]string{}
	for _, v := range s.servers.By("host", host) {
		if v.ha() && v.VMState == Errored && v.Fault != nil && s.failedRevival(v) {
			out[v.ID] = v.Fault.Message
		}
	}
	return out
}

// revoke has the host's leases leave the server out, and waits until it does not run
// there any more: its host says so, or its lease is over.
func (s *Service) revoke(ctx context.Context, v *Server) error {
	gen, err := s.order(ctx, v.ID, func(_ *Server, i *nodeapi.Instance) error {
		i.Power, i.Revoked = nodeapi.PowerStopped, true
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	for !s.Nodes.Free(v.Host, v.ID) {
		if st, err := s.Nodes.Statuses.Get(v.ID); err == nil && st.Node == v.Host && st.Gen >= gen && st.Fault == "" && st.Power == nodeapi.PowerStopped {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// evacuateUnfence lets the host that was dead run the server again, if it returns.
func (s *Service) evacuateUnfence(ctx context.Context, j *job) error {
	v, m, args, err := s.evacuationOf(j)
	if err != nil || v.Host == m.Target {
		return err
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		i, err := s.Nodes.Instances.TxGet(tx, v.ID)
		if err != nil || !i.Revoked {
			return ignoreMissing(err)
		}
		_, err = s.orderTx(tx, v.ID, func(_ *Server, i *nodeapi.Instance) error {
			if i.Revoked = false; !args.Stopped {
				i.Power = nodeapi.PowerRunning
			}
			return nil
		})
		return err
	})
}

func ignoreMissing(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}
