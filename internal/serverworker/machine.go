package serverworker

import (
	"context"
	"errors"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/csi"
	"github.com/strata-cloud/strata/internal/kube/images"
	"github.com/strata-cloud/strata/internal/kube/podnet"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// machine is this server as a worker.
type machine struct {
	*kube.Machine
	pods    *podnet.Network
	images  *images.Server
	volumes *csi.Driver
}

var _ node.ClusterMachine = machine{}

// netLimit bounds one attempt to bring the network of pods to work.
const netLimit = 20 * time.Second

// Ensure implements node.ClusterMachine. The programs wait for the network of pods.
func (m machine) Ensure(ctx context.Context, p nodeapi.KubePart) error {
	if p.Control != nil || p.Worker == nil {
		return errs.Forbiddenf("a server hosts no control plane")
	}
	limit, cancel := context.WithTimeout(ctx, netLimit)
	defer cancel()
	if err := m.pods.Ensure(limit, p); err != nil {
		return err
	}
	if err := m.images.Ensure(ctx, p); err != nil {
		return err
	}
	return errors.Join(m.Keep(ctx, p.ID, nil, kube.WorkerOf(p)), m.volumes.Ensure(ctx, p))
}

// API implements node.ClusterMachine: there is none here.
func (m machine) API(context.Context, nodeapi.KubePart) *nodeapi.KubeAPI { return nil }

// Remove implements node.ClusterMachine.
func (m machine) Remove(ctx context.Context, id string) error {
	if err := m.Keep(ctx, id, nil, nil); err != nil {
		return err
	}
	if err := errors.Join(m.volumes.Ensure(ctx, nodeapi.KubePart{ID: id}), m.images.Remove(id), m.pods.Remove(ctx, id)); err != nil {
		return err
	}
	return m.Machine.Remove(ctx, id)
}

// List implements node.ClusterMachine.
func (m machine) List() ([]string, error) { return m.Clusters() }
