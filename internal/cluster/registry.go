package cluster

import (
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Registry is the region's registry of images.
type Registry interface {
	// Names are what the names of images in it begin with, whoever leads; Mirrored are the
	// registries of others that it mirrors.
	Names() []string
	Mirrored() []string
	// Login gives what a worker pulls with.
	Login(cluster, node string) (*nodeapi.KubeLogin, error)
}

// PullLogin gives a worker of a cluster what it pulls images of the project with.
func (s *Service) PullLogin(node, cluster string) (*nodeapi.KubeLogin, error) {
	if _, err := s.PullsFor(node, cluster); err != nil {
		return nil, err
	}
	return s.Registry.Login(cluster, node)
}

// PullsFor gives the project whose images a node pulls for a cluster. Forbidden: it does not
// work for it.
func (s *Service) PullsFor(node, cluster string) (project string, err error) {
	c, err := s.clusters.Get(cluster)
	if err != nil || c.Status == DeleteInProgress || !s.works(node, cluster) {
		return "", errs.Forbiddenf("node %s does not work for cluster %s", node, cluster)
	}
	return c.ProjectID, nil
}
