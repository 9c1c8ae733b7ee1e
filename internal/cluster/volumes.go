package cluster

import (
	"context"

	"github.com/strata-cloud/strata/internal/cluster/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Volumes is the volume service.
type Volumes interface {
	volumes.Storage
	// Reach says how the node of an attachment reaches its volume. NotFound: there is none.
	Reach(ctx context.Context, s *volumes.Scope, attachment string) (*nodeapi.ContainerVolume, error)
	// LetGo ends what a node of a cluster has of volumes; node "": all nodes.
	LetGo(ctx context.Context, project, cluster, node string) error
}

// scope is a cluster as the volumes see it.
func (s *Service) scope(c *Cluster) *volumes.Scope {
	return &volumes.Scope{Cluster: c.ID, Project: c.ProjectID, User: c.UserID, Server: func(node string) (string, error) { return s.serverOf(node, c.ID) }}
}

// serverOf is the server that a node of a cluster is; "": it is a machine.
func (s *Service) serverOf(node, cluster string) (string, error) {
	w, ok := s.workers.Unique("node", node)
	if !ok || !s.works(node, cluster) {
		return "", errs.NotFoundf("Node %s does not work for the cluster.", node)
	}
	return w.Server, nil
}

// NodeOfServer is the node, and its cluster, that a server is; "": it is none.
func (s *Service) NodeOfServer(server string) (node, cluster string) {
	if list := s.workers.By("server", server); server != "" && len(list) > 0 {
		return list[0].Node, list[0].ClusterID
	}
	return "", ""
}

// works tells whether a node works for a cluster, and is to go on with that.
func (s *Service) works(node, cluster string) bool {
	w, ok := s.workers.Unique("node", node)
	return ok && w.ClusterID == cluster && w.Claimed && !w.Leaving
}

// CSI answers a call of the container storage interface that comes from beside the
// cluster's control plane, on node.
func (s *Service) CSI(ctx context.Context, node, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error) {
	c, err := s.clusters.Get(cluster)
	if err != nil || c.Member != node || c.Status == DeleteInProgress {
		return nil, errs.Forbiddenf("node %s does not host the control plane of cluster %s", node, cluster)
	}
	a := volumes.Call(ctx, s.Volumes, s.scope(c), method, body)
	if a.Code != 0 {
		s.Log.Info("a cluster's volumes", "cluster", cluster, "call", method, "code", a.Code, "why", a.Message)
	}
	return a, nil
}

// ClusterVolume says how a worker reaches a volume that is attached to it.
func (s *Service) ClusterVolume(ctx context.Context, node, cluster, volume string) (*nodeapi.ContainerVolume, error) {
	c, err := s.clusters.Get(cluster)
	if err != nil || !s.works(node, cluster) {
		return nil, errs.Forbiddenf("node %s does not work for cluster %s", node, cluster)
	}
	return s.Volumes.Reach(ctx, s.scope(c), volumes.AttachmentID(cluster, volume, node))
}
