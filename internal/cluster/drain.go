package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// drainLimit is how long the pods of workers that leave have to find another place. What
// disruption budgets keep back for longer ends with its worker.
const drainLimit = 5 * time.Minute

// avoidLimit is how long a cluster has to take note of workers that will leave.
const avoidLimit = 30 * time.Second

// BeforeLeaving does something to a node of a cluster before it leaves (package drain).
type BeforeLeaving func(ctx context.Context, api *kubeapi.Client, node string) error

// drain has the pods of workers go elsewhere, as far as they can.
func (s *Service) drain(ctx context.Context, c *Cluster, list []*Worker) {
	s.beforeLeaving(ctx, c, list, s.Drain, drainLimit)
}

// avoid has pods of workers that will leave not go from one of them to the next.
func (s *Service) avoid(ctx context.Context, c *Cluster, list []*Worker) {
	s.beforeLeaving(ctx, c, list, s.Avoid, avoidLimit)
}

// beforeLeaving does one thing to workers, for so long. A cluster that does not answer, a worker
// that is away and a cluster that is about to be deleted stop nobody.
func (s *Service) beforeLeaving(ctx context.Context, c *Cluster, list []*Worker, do BeforeLeaving, limit time.Duration) {
	if do == nil || len(list) == 0 || c.Authorities == nil {
		return
	}
	api, err := s.client(c.ID, "drain")
	if err != nil {
		s.Log.Warn("workers leave a cluster without being drained", "cluster", c.ID, "err", err)
		return
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go func() {
		defer cancel()
		_ = s.await(ctx, "the end of cluster "+c.ID, func() (bool, error) {
			now, err := s.clusters.Get(c.ID)
			return err != nil || now.Status == DeleteInProgress, nil
		})
	}()
	var group sync.WaitGroup
	for _, w := range list {
		if n, known := s.listed(c, w.Node); !known || !n.Ready {
			continue // what it has is moved by the cluster itself
		}
		group.Go(func() {
			if err := do(ctx, api, w.Node); err != nil {
				s.Log.Warn("a worker leaves a cluster, and its pods are not all elsewhere", "cluster", c.ID, "node", w.Node, "err", err)
			}
		})
	}
	group.Wait()
}
