package region

import (
	"net"
	"net/netip"
	"net/url"
	"slices"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/registry"
)

// registryForCluster shows the service of clusters the registry.
type registryForCluster struct{ r *Region }

var _ cluster.Registry = registryForCluster{}

// Names are the addresses of all members' APIs, so that they stay when another one leads.
func (s registryForCluster) Names() []string {
	if s.r.council == nil {
		return registryNames(s.r.cfg.url(), "")
	}
	var out []string
	for _, p := range s.r.council.member.Peers() {
		if len(p.URLs) == 2 { // of the cluster's port and of the APIs
			out = append(out, registryNames(p.URLs[1], p.URLs[0])...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// registryNames are what images at an API are called. A member that is reached by a name has
// also the address by which others of the control plane reach it; one on loopback has both names
// of that.
func registryNames(api, cluster string) []string {
	u, err := url.Parse(api)
	if err != nil || u.Host == "" {
		return nil
	}
	host, port := u.Hostname(), u.Port()
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "localhost":
		return []string{u.Host, net.JoinHostPort("127.0.0.1", port)}
	case err == nil && addr.IsLoopback():
		return []string{u.Host, net.JoinHostPort("localhost", port)}
	case err == nil:
		return []string{u.Host}
	}
	out := []string{u.Host}
	if c, err := url.Parse(cluster); err == nil && c.Hostname() != "" {
		out = append(out, net.JoinHostPort(c.Hostname(), port))
	}
	return out
}

// Mirrored implements cluster.Registry.
func (s registryForCluster) Mirrored() []string { return s.r.Registry.Mirrored() }

// Login implements cluster.Registry.
func (s registryForCluster) Login(cluster, node string) (*nodeapi.KubeLogin, error) {
	password, err := s.r.Registry.WorkerPassword(registry.Worker{Cluster: cluster, Node: node})
	if err != nil {
		return nil, err
	}
	return &nodeapi.KubeLogin{Name: registry.WorkerName, Password: password, Lasts: registry.WorkerTTL}, nil
}
