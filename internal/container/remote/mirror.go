package remote

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// Mirrors is the region's registry as the mirror of others.
type Mirrors interface {
	// Mirrors are the registries that it mirrors.
	Mirrors(ctx context.Context) ([]string, error)
	// DialMirror connects to it, for these alone. The connection speaks HTTP and lasts until
	// it is closed, or ctx ends.
	DialMirror(ctx context.Context) (net.Conn, error)
}

const (
	// mirrorName stands for the region's registry where there is no address.
	mirrorName = "mirror"
	// askMirrors bounds the question which mirrors there are, and its answer counts for
	// mirrorsFor: a control plane that is away holds up no one for long.
	askMirrors = 2 * time.Second
	mirrorsFor = 5 * time.Second
)

// mirror is the way to the region's registry.
type mirror struct {
	of     Mirrors
	client *http.Client
	life   context.Context // of the engine: containerd asks for hosts without one

	mu      sync.Mutex
	domains []string  // that are mirrored, as far as is known
	asked   time.Time // when that was asked
}

func newMirror(ctx context.Context, of Mirrors) *mirror {
	if of == nil {
		return nil
	}
	return &mirror{of: of, life: ctx, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 10 * time.Second, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return of.DialMirror(context.WithoutCancel(ctx)) // which ends with the dialling
		}}}}
}

// hosts is where a registry's images are asked for first, if the region mirrors it.
// What the mirror has not, for whatever reason, is asked for at the registry itself.
func (m *mirror) hosts(domain string) []docker.RegistryHost {
	if m == nil || !slices.Contains(m.known(), domain) {
		return nil
	}
	return []docker.RegistryHost{{Client: m.client, Host: mirrorName, Scheme: "http", Path: "/v2", Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}}
}

// known are the registries that the region mirrors.
func (m *mirror) known() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.asked) < mirrorsFor {
		return m.domains
	}
	ctx, cancel := context.WithTimeout(m.life, askMirrors)
	defer cancel()
	list, err := m.of.Mirrors(ctx)
	if err != nil {
		list = nil // the registries themselves are asked
	}
	m.domains, m.asked = list, time.Now()
	return list
}
