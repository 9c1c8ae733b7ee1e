package build

import (
	"context"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/v2/pkg/oci"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// bridged gives each build container a namespace of the engine's bridge.
type bridged struct {
	sandbox func(context.Context) (path string, release func() error, err error)
	log     *slog.Logger
}

// New implements network.Provider.
func (b bridged) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	path, release, err := b.sandbox(ctx)
	if err != nil {
		return nil, err
	}
	return &sandbox{path: path, release: sync.OnceValue(release)}, nil
}

// Close implements network.Provider.
func (bridged) Close() error { return nil }

type sandbox struct {
	path    string
	release func() error
}

// Set implements network.Namespace.
func (s *sandbox) Set(spec *specs.Spec) error {
	return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.path})(nil, nil, nil, spec)
}

// Sample implements network.Namespace: nothing is measured.
func (*sandbox) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }

// Close implements network.Namespace.
func (s *sandbox) Close() error { return s.release() }
