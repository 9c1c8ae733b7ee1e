package gate

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Want says what a control plane reaches. It is not changed any more.
type Want struct {
	Cluster string
	// Port is the control plane's own place on the cluster's network; nil: none yet. Network
	// has the addresses that are reached from there: of pods, servers, workers that are servers.
	Port    *nodeapi.ContainerPort
	Network netip.Prefix
	// Network6 is that of IPv6; not valid: there is none.
	Network6 netip.Prefix
	// Machines are workers at the addresses of machines of the pool, at any port: what runs
	// there is the cluster's own.
	Machines []netip.Addr
	// Beside gives where to find on this machine what the API server has at another address.
	Beside map[netip.AddrPort]netip.AddrPort
}

// ways are where addresses lead.
type ways struct {
	Want
	host   *netns.NS
	inside *netns.NS // nil: there is no place on the network yet
}

// way gives where to connect to for an address, and from which namespace.
func (w *ways) way(at netip.AddrPort) (*netns.NS, netip.AddrPort, error) {
	beside, ok := w.Beside[at]
	switch {
	case ok:
		return w.host, beside, nil
	case slices.Contains(w.Machines, at.Addr()):
		return w.host, at, nil
	case !w.Network.Contains(at.Addr()) && !w.Network6.Contains(at.Addr()):
		return nil, at, errs.Forbiddenf("%s is not in the cluster's network", at.Addr())
	case w.inside == nil:
		return nil, at, errs.New(errs.Unavailable, "the control plane has no place in the cluster's network yet")
	}
	return w.inside, at, nil
}

// dialLimit bounds how long somebody is waited for: the API server waits without a limit.
const dialLimit = 10 * time.Second

// dial connects to an address, from where it leads.
func (w *ways) dial(ctx context.Context, at netip.AddrPort) (stream, error) {
	ns, to, err := w.way(at)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var conn net.Conn
	err = ns.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
