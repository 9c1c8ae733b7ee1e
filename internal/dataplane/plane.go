package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/strata-cloud/strata/internal/dataplane/firewall"
	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Config says which node this is and what it connects to.
type Config struct {
	// Name begins the name of every namespace and table: 1 to 12 lower-case
	// letters, digits or dashes, unique among the clouds on one machine.
	Name string
	// HostLink names the veth on the host's side, at most 15 bytes.
	HostLink string
	// Host is the namespace that has the node's links to the world; nil: the one
	// that this process runs in. The Plane does not close it.
	Host *netns.NS
	// Tunnel is this node's address for the VXLAN of networks that span nodes;
	// zero: networks end at this node.
	Tunnel netip.Addr
	// TunnelPort is the UDP port of VXLAN on all nodes of the cloud; 0: TunnelPort.
	TunnelPort int
	// External lists the external networks that this node serves.
	External []External
	// Providers gives the host's device on each provider's (physical) network that
	// networks of the types flat and vlan are on, lent to the cloud for good.
	Providers map[string]string
	// NoMasquerade leaves traffic from external networks to the world as it is;
	// the operator then routes or translates it.
	NoMasquerade bool
	// Resolvers are asked for names that are not ours, as host:port; nil means
	// the host's /etc/resolv.conf, empty none.
	Resolvers []string
	// Metadata answers a metadata request of the server deviceID.
	Metadata func(ctx context.Context, deviceID string, w http.ResponseWriter, r *http.Request)
	// OnStatus is told of every change of a local port's state; it must not
	// call the Plane. May be nil.
	OnStatus func(nodeapi.PortStatus)
	Log      *slog.Logger
}

// External is the host's place in an external network.
type External struct {
	NetworkID string       // empty: the external network with a subnet that is CIDR
	CIDR      netip.Prefix // of the public subnet
	HostAddr  netip.Addr   // what the host carries: the subnet's gateway
	// Device is the host's device on the provider's network that this network is,
	// lent to the cloud for good; then the host carries no address.
	Device string
}

// Plane is the data plane of one node.
type Plane struct {
	cfg  Config
	log  *slog.Logger
	host *netns.NS

	mu        sync.Mutex // one Apply, Tap or Reset at a time
	node      *netns.NS  // nil before the first Apply
	applied   bool       // something has been applied by this process
	state     nodeapi.NetState
	compiler  *firewall.Compiler
	rules     *firewall.Ruleset // what the kernel has, nil when not known
	hostRules *nft.Table        // what the host has of ours, nil when not known
	zones     map[string]uint16 // of networks, by id
	bridges   map[string]nodeapi.Network
	overlays  map[string]overlay // as realised, by network
	services  map[string]*service
	routers   map[string]*router
	reported  map[string]bool // ports by id: last Up that OnStatus was told
	ahead     map[string]bool // ports by id whose taps were made before they are local

	seen    atomic.Pointer[[]*segment.Segment] // every network, for name servers
	portsMu sync.Mutex
	ports   map[string]nodeapi.Port // local ports whose rules are in place
	changed chan struct{}           // closed when ports changes
}

// TunnelPort is VXLAN's own (RFC 7348).
const TunnelPort = 4789

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,11}$`)

// check finds what a Plane could not work with.
func (cfg *Config) check() error {
	if !nameRE.MatchString(cfg.Name) {
		return fmt.Errorf("data plane: name %q is not 1 to 12 of a-z, 0-9 and -", cfg.Name)
	}
	for _, e := range cfg.External {
		if e.Device != "" {
			continue
		}
		if cfg.HostLink == "" || len(cfg.HostLink) > 14 {
			return fmt.Errorf("data plane: host link %q is not 1 to 14 bytes", cfg.HostLink)
		}
		if !e.CIDR.Contains(e.HostAddr) {
			return fmt.Errorf("data plane: host address %s is not in %s", e.HostAddr, e.CIDR)
		}
	}
	if cfg.TunnelPort < 0 || cfg.TunnelPort > 65535 {
		return fmt.Errorf("data plane: %d is no UDP port", cfg.TunnelPort)
	}
	if cfg.Tunnel.Zone() != "" || cfg.Tunnel.IsValid() && cfg.Tunnel != cfg.Tunnel.Unmap() {
		return fmt.Errorf("data plane: tunnel address %s is not a plain one", cfg.Tunnel)
	}
	return nil
}

// New checks cfg and makes a Plane. It changes nothing on the machine.
func New(cfg Config) (*Plane, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.TunnelPort == 0 {
		cfg.TunnelPort = TunnelPort
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolvers == nil {
		cfg.Resolvers = hostResolvers("/etc/resolv.conf")
	}
	host := cfg.Host
	if host == nil {
		var err error
		if host, err = netns.Current(); err != nil {
			return nil, err
		}
	}
	return &Plane{
		cfg: cfg, log: cfg.Log, host: host,
		compiler: firewall.NewCompiler(),
		zones:    map[string]uint16{}, bridges: map[string]nodeapi.Network{}, overlays: map[string]overlay{},
		services: map[string]*service{}, routers: map[string]*router{},
		reported: map[string]bool{}, ahead: map[string]bool{},
		ports: map[string]nodeapi.Port{}, changed: make(chan struct{}),
	}, nil
}

// Requirements lists the Debian packages whose programs the data plane runs.
func Requirements() []string { return []string{"nftables"} }

// Close stops the responders. Bridges, taps, routers and rules stay: servers
// keep their networking, and a new Plane with the same name adopts it.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for id, s := range p.services {
		errs = append(errs, s.close())
		delete(p.services, id)
	}
	for id, r := range p.routers {
		errs = append(errs, r.close())
		delete(p.routers, id)
	}
	if p.node != nil {
		errs = append(errs, p.node.Close())
		p.node = nil
	}
	p.applied, p.rules, p.hostRules = false, nil, nil
	return errors.Join(errs...)
}

func (p *Plane) nodeNS() string                { return p.cfg.Name + "-node" }
func (p *Plane) serviceNS(id string) string    { return p.cfg.Name + "-net-" + id }
func (p *Plane) routerNS(id string) string     { return p.cfg.Name + "-qr-" + id }
func (p *Plane) externalLink(index int) string { return externalLink(p.cfg.HostLink, index) }

// externalLink names the veth of the index-th external network.
func externalLink(base string, index int) string {
	if index == 0 {
		return base
	}
	return fmt.Sprintf("%s%d", base, index)
}
