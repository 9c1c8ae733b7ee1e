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

// Drain empties a node of a cluster, or has it get no pods that have another choice (Avoid), as
// package drain does.
type Drain func(ctx context.Context, api *kubeapi.Client, node string) error

// asks gives the API for what is done about workers before they leave; nil: there is nothing to
// do, or nobody to ask.
func (s *Service) asks(c *Cluster, list []*Worker, how Drain) *kubeapi.Client {
	if how == nil || len(list) == 0 || c.Authorities == nil {
		return nil
	}
	api, err := s.client(c.ID, "drain")
	if err != nil {
		s.Log.Warn("workers leave a cluster without being drained", "cluster", c.ID, "err", err)
		return nil
	}
	return api
}

// avoidLimit is how long a cluster has to take note of workers that will go.
const avoidLimit = 30 * time.Second

// avoid has the pods of workers that will leave not go from one of them to the next. A cluster
// that does not answer stops nobody.
func (s *Service) avoid(ctx context.Context, c *Cluster, list []*Worker) {
	api := s.asks(c, list, s.Avoid)
	if api == nil {
		return
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, avoidLimit)
	defer cancel()
	for _, w := range list {
		if err := s.Avoid(ctx, api, w.Node); err != nil {
			s.Log.Warn("pods may go to a worker that will leave", "cluster", c.ID, "node", w.Node, "err", err)
		}
	}
}

// drain has the pods of workers go elsewhere, as far as they can. A cluster that does not
// answer, a worker that is away and a cluster that is about to be deleted stop nobody.
func (s *Service) drain(ctx context.Context, c *Cluster, list []*Worker) {
	api := s.asks(c, list, s.Drain)
	if api == nil {
		return
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
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
			if err := s.Drain(ctx, api, w.Node); err != nil {
				s.Log.Warn("a worker leaves a cluster with pods", "cluster", c.ID, "node", w.Node, "err", err)
			}
		})
	}
	group.Wait()
}
