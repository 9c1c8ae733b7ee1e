package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// both gives the job's cluster and group.
func (s *Service) both(j *job) (*Cluster, *Group, error) {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.groups.Get(j.Group)
	return c, g, err
}

// hireAll gives a new cluster its first workers.
func (s *Service) hireAll(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, c)
	defer cancel()
	return s.converge(ctx, j)
}

// converge brings the number of a group's workers to what is wanted, and waits until
// those that are new are nodes of the cluster, and those that leave are none.
func (s *Service) converge(ctx context.Context, j *job) error {
	c, g, err := s.both(j)
	if err != nil {
		return err
	}
	if err := s.confirm(ctx, c, g); err != nil {
		return err
	}
	have := s.present(g.ID)
	for n := len(have); n < g.NodeCount; n++ {
		if err := s.hire(ctx, c, g); err != nil {
			return err
		}
	}
	surplus := s.surplus(have, g.NodeCount, j.Remove)
	s.drain(ctx, c, surplus)
	if err := s.dismiss(ctx, c, surplus); err != nil {
		return err
	}
	for _, w := range s.present(g.ID) {
		if err := s.awaitWorker(ctx, c, w); err != nil {
			return err
		}
	}
	return nil
}

// present are a group's workers that do not leave, oldest first.
func (s *Service) present(group string) []*Worker {
	list := slices.DeleteFunc(slices.Clone(s.workers.By("group", group)), func(w *Worker) bool { return w.Leaving })
	slices.SortFunc(list, func(a, b *Worker) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// confirm makes the claims that a crash may have come before.
func (s *Service) confirm(ctx context.Context, c *Cluster, g *Group) error {
	for _, w := range s.present(g.ID) {
		if w.Claimed {
			continue
		}
		if w.Server != "" {
			if err := s.install(ctx, c, g, w); err != nil {
				return err
			}
			continue
		}
		err := s.claim(ctx, c, w, g.Size)
		if errs.Is(err, errs.NoCapacity) {
			err = s.workers.Delete(ctx, w.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// surplus are the workers that are too many: those that are named first, then the newest.
func (s *Service) surplus(have []*Worker, count int, names []string) []*Worker {
	if len(have) <= count {
		return nil
	}
	stay := without(have, names)
	var leave []*Worker
	for _, w := range have {
		if !slices.Contains(stay, w) {
			leave = append(leave, w)
		}
	}
	slices.Reverse(stay)
	return append(leave, stay...)[:len(have)-count]
}

// dismiss takes workers from a cluster: their nodes stop, and the cluster forgets them.
func (s *Service) dismiss(ctx context.Context, c *Cluster, list []*Worker) error {
	for _, w := range list {
		_, err := s.workers.Update(ctx, w.ID, func(w *Worker) error { w.Leaving = true; return nil })
		if ignoreAbsent(err) != nil {
			return err
		}
	}
	return s.seeOff(ctx, c)
}

// seeOff waits until the workers that leave have left, and gives their nodes back.
func (s *Service) seeOff(ctx context.Context, c *Cluster) error {
	leaving := slices.DeleteFunc(slices.Clone(s.workers.By("cluster", c.ID)), func(w *Worker) bool { return !w.Leaving })
	if err := s.removeServers(ctx, c, leaving); err != nil {
		return err
	}
	for _, w := range leaving {
		err := s.await(ctx, "node "+w.Node+" to leave cluster "+c.ID, func() (bool, error) { return s.left(c, w), nil })
		if err != nil {
			return err
		}
		if err := s.release(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// left tells whether a worker has stopped and is no node of the cluster.
func (s *Service) left(c *Cluster, w *Worker) bool {
	stopped := s.away(w)
	if w.Node == c.Member && !stopped { // which keeps the part with the control plane
		ok, err := s.reached(c.Member, c.ID)
		stopped = ok && err == nil
	}
	_, listed := s.listed(c, w.Node)
	return stopped && (!listed || s.absent(c.Member, c.ID))
}

// listed gives what the cluster's API says of a node; false: it has none of the name.
func (s *Service) listed(c *Cluster, node string) (nodeapi.KubeNode, bool) {
	st := s.reported(c.Member, c.ID)
	if st == nil || st.API == nil {
		return nodeapi.KubeNode{}, false
	}
	i := slices.IndexFunc(st.API.Nodes, func(n nodeapi.KubeNode) bool { return n.Name == node })
	if i < 0 {
		return nodeapi.KubeNode{}, false
	}
	return st.API.Nodes[i], true
}

// awaitWorker waits until a worker is a node of its cluster, and ready.
func (s *Service) awaitWorker(ctx context.Context, c *Cluster, w *Worker) error {
	if w.Server != "" {
		return s.awaitServer(ctx, c, w)
	}
	return s.await(ctx, "node "+w.Node+" to join cluster "+c.ID, func() (bool, error) {
		ok, err := s.reached(w.Node, c.ID)
		n, _ := s.listed(c, w.Node)
		return ok && n.Ready, err
	})
}

// awaitServer does so with a server, which boots first, and on whose way there it may say
// that something is not there yet.
func (s *Service) awaitServer(ctx context.Context, c *Cluster, w *Worker) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	last := "nothing"
	err := s.await(ctx, "server "+w.Node+" to join cluster "+c.ID, func() (bool, error) {
		if why := s.serverFault(w); why != "" {
			return false, errs.New(errs.Internal, "server %s: %s", w.Node, why)
		}
		ok, err := s.reached(w.Node, c.ID)
		if err != nil {
			last = err.Error()
		}
		n, _ := s.listed(c, w.Node)
		return ok && n.Ready, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w; it says: %s", err, last)
	}
	return err
}

// retire takes all workers of a group whose cluster goes on.
func (s *Service) retire(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return ignoreAbsent(err)
	}
	s.drain(ctx, c, s.present(j.Group))
	return s.dismissAll(ctx, j)
}

// dismissAll takes all workers of the group, or dismissNew those that a resize added.
func (s *Service) dismissAll(ctx context.Context, j *job) error { return s.dismissBut(ctx, j, nil) }
func (s *Service) dismissNew(ctx context.Context, j *job) error {
	return s.dismissBut(ctx, j, j.Before)
}

func (s *Service) dismissBut(ctx context.Context, j *job, keep []string) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil || c.Status == DeleteInProgress {
		return ignoreAbsent(err) // the delete takes them all
	}
	return s.dismiss(ctx, c, without(s.workers.By("group", j.Group), keep))
}

// forgetGroup removes a group that has no workers any more.
func (s *Service) forgetGroup(ctx context.Context, j *job) error {
	err := s.ledger.Do(ctx, func(tx *store.Tx) error { return ignoreAbsent(s.groups.TxDelete(tx, j.Group)) })
	if err != nil {
		return err
	}
	return s.settle(ctx, &job{Cluster: j.Cluster}, UpdateComplete, "")
}

// upgradeControl has the control plane's programs started anew.
func (s *Service) upgradeControl(ctx context.Context, j *job) error {
	if !j.Control {
		return nil
	}
	c, err := s.clusters.Update(ctx, j.Cluster, func(c *Cluster) error { c.Generation = j.Target; return nil })
	if err != nil {
		return err
	}
	return s.awaitControl(ctx, c)
}

// upgradeWorkers does so with the group's workers, a batch at a time.
func (s *Service) upgradeWorkers(ctx context.Context, j *job) error {
	c, g, err := s.both(j)
	if err != nil {
		return err
	}
	if j.Server != nil && g.Server != nil {
		if err := s.replaceServers(ctx, c, g, j); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(s.present(g.ID), max(j.Batch, 1)) {
		if err := s.upgradeBatch(ctx, c, batch, j.Target); err != nil {
			return err
		}
	}
	return nil
}

// upgradeBatch upgrades workers at a time. A repeated run waits for those that it finds
// upgraded.
func (s *Service) upgradeBatch(ctx context.Context, c *Cluster, batch []*Worker, target int) error {
	old := slices.DeleteFunc(slices.Clone(batch), func(w *Worker) bool { return w.Generation == target })
	return s.restart(ctx, c, old, func() error {
		for _, w := range old {
			if _, err := s.workers.Update(ctx, w.ID, func(w *Worker) error { w.Generation = target; return nil }); err != nil {
				return err
			}
		}
		for _, w := range batch {
			if err := s.awaitWorker(ctx, c, w); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) upgraded(ctx context.Context, j *job) error {
	_, err := s.clusters.Update(ctx, j.Cluster, func(c *Cluster) error { c.TemplateID = j.Template; return nil })
	if err != nil {
		return ignoreAbsent(err)
	}
	return s.settle(ctx, j, UpdateComplete, "")
}
