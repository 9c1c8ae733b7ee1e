package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/kubeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Controller does something for each cluster that has a control plane: it follows objects
// of the cluster's API and acts. One goroutine runs it for each cluster, on the member
// that leads.
type Controller struct {
	Name string // of its user in the cluster (strata:NAME), and in logs
	// Run works until ctx ends, which it does when the cluster is about to be deleted, or
	// Target is not true any more. If it returns before, it is called again after a pause.
	Run func(ctx context.Context, t Target, api *kubeapi.Client) error
	// Clean removes what the controller has made outside of a cluster that is going, and may
	// be repeated; nil: nothing. Its API may be gone by then.
	Clean func(ctx context.Context, cluster string) error
}

// Target is what a controller is told of a cluster. It is comparable, and another one of
// the same cluster begins anew.
type Target struct {
	ID, Name, ProjectID, UserID string
	Address                     string // of the API, IP:PORT
	Network, Subnet, Subnet6    string // of its pods; no subnet: the only one
	authority                   string
}

// How long a controller works with one certificate, and rests when it has failed.
const (
	controllerLife  = authority.RenewBefore / 3
	controllerPause = 5 * time.Second
)

// works tells whether a cluster has a control plane that is to stay.
func (c *Cluster) works() bool {
	return c.Address != "" && c.Authorities != nil && c.Status != DeleteInProgress && c.Network != nil
}

// TxWorks is Conflict when a cluster is not there any more, or about to go: whoever makes
// something for it asks in the same transaction.
func (s *Service) TxWorks(tx *store.Tx, id string) error {
	if c, err := s.clusters.TxGet(tx, id); err != nil || !c.works() {
		return errs.Conflictf("cluster %s is going", id)
	}
	return nil
}

// clean has the controllers remove what they have made for a cluster.
func (s *Service) clean(ctx context.Context, id string) error {
	for _, c := range s.Controllers {
		if c.Clean == nil {
			continue
		}
		if err := c.Clean(ctx, id); err != nil {
			return fmt.Errorf("what %s has made for the cluster: %w", c.Name, err)
		}
	}
	return nil
}

// targets are the clusters that controllers work for, in order.
func (s *Service) targets() (out []Target) {
	for _, c := range s.clusters.All() {
		if !c.works() {
			continue
		}
		out = append(out, Target{ID: c.ID, Name: c.Name, ProjectID: c.ProjectID, UserID: c.UserID, Address: c.Address,
			Network: c.Network.ID, Subnet: c.Network.SubnetID, Subnet6: c.Network.SubnetID6, authority: string(c.Authorities.Cluster.Cert)})
	}
	slices.SortFunc(out, func(a, b Target) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// runControllers runs the controllers until ctx ends.
func (s *Service) runControllers(ctx context.Context) {
	if len(s.Controllers) == 0 {
		return
	}
	var group sync.WaitGroup
	defer group.Wait()
	running := map[Target]context.CancelFunc{}
	for wanted := range store.Stream(ctx, s.DB, s.targets, service+"/cluster") {
		for t, end := range running {
			if !slices.Contains(wanted, t) {
				end()
				delete(running, t)
			}
		}
		for _, t := range wanted {
			if running[t] != nil {
				continue
			}
			ctx, end := context.WithCancel(ctx)
			running[t] = end
			for _, c := range s.Controllers {
				group.Go(func() { s.runController(ctx, t, c) })
			}
		}
	}
}

// runController runs a controller for a cluster again and again until ctx ends.
func (s *Service) runController(ctx context.Context, t Target, c Controller) {
	for ctx.Err() == nil {
		if err := s.controlOnce(ctx, t, c); err != nil && ctx.Err() == nil {
			s.Log.Warn("a controller of a cluster begins again", "controller", c.Name, "cluster", t.ID, "err", err)
		}
		pause := time.NewTimer(controllerPause)
		select {
		case <-ctx.Done():
			pause.Stop()
		case <-pause.C:
		}
	}
}

func (s *Service) controlOnce(ctx context.Context, t Target, c Controller) error {
	ctx, cancel := context.WithTimeout(ctx, controllerLife)
	defer cancel()
	api, err := s.client(t.ID, c.Name)
	if err != nil {
		return err
	}
	defer api.Close()
	return c.Run(ctx, t, api)
}

// client speaks to a cluster's API as an administrator by the name strata:NAME.
func (s *Service) client(id, name string) (*kubeapi.Client, error) {
	c, err := s.clusters.Get(id)
	if err != nil {
		return nil, err
	}
	leaf, err := c.Authorities.Cluster.Issue(authority.Leaf{Name: "strata:" + name, Groups: []string{"system:masters"}, Client: true})
	if err != nil {
		return nil, err
	}
	return kubeapi.New(kubeapi.Config{Server: "https://" + c.Address, CA: c.Authorities.Cluster.Cert, Certificate: leaf.Cert, Key: leaf.Key, Manager: "strata-" + name})
}
