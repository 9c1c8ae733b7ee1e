package nodes

import (
	"context"
	"net"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Containers is a node's container engine, for those of projects.
type Containers interface {
	// EnsureContainer makes the container, which does not run yet; one that is there stays
	// as it is.
	EnsureContainer(ctx context.Context, c nodeapi.Container) (warnings []string, err error)
	// DockerAPI connects to the engine's API, until the connection is closed. Unavailable:
	// the node has no engine, or not now.
	DockerAPI(ctx context.Context) (net.Conn, error)
}

// Containers gives a node's container engine.
func (r *Registry) Containers(node string) (Containers, error) {
	c, err := r.Conn(node)
	if err != nil {
		return nil, err
	}
	if e, ok := c.(Containers); ok {
		return e, nil
	}
	return nil, errs.New(errs.NotImplemented, "node %s runs no containers", node)
}
