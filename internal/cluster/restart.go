package cluster

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

// restartLimit is how long a worker's pods have to be ready again, before the next worker's
// turn. A pod that was about to fail must not hold up an upgrade for ever.
const restartLimit = 5 * time.Minute

// Restart looks at a node of a cluster before its programs are started anew, as package
// restart does; await waits until it works again.
type Restart func(ctx context.Context, api *kubeapi.Client, node string) (await func(context.Context) error, err error)

// restart has workers' programs started anew by change, and waits until what runs there has
// its clients again. A cluster that does not answer stops nobody.
func (s *Service) restart(ctx context.Context, c *Cluster, list []*Worker, change func() error) error {
	if s.Restart == nil || len(list) == 0 {
		return change()
	}
	api, err := s.client(c.ID, "restart")
	if err != nil {
		return err
	}
	defer api.Close()
	waits := map[string]func(context.Context) error{}
	for _, w := range list {
		await, err := s.Restart(ctx, api, w.Node)
		if err != nil {
			s.Log.Warn("a worker is restarted without being watched", "cluster", c.ID, "node", w.Node, "err", err)
			continue
		}
		waits[w.Node] = await
	}
	if err := change(); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, restartLimit)
	defer cancel()
	for node, await := range waits {
		if err := await(limit); err != nil && ctx.Err() == nil {
			s.Log.Warn("a worker is not what it was before it was restarted", "cluster", c.ID, "node", node, "err", err)
		}
	}
	return ctx.Err()
}
