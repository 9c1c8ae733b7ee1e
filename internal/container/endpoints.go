package container

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/errs"
)

// Endpoint is a container on a network. It has an id, a device and addresses while the
// container runs.
type Endpoint struct {
	Network         string // id
	ID              string
	Addr, Addr6     netip.Addr
	Device          string
	Wanted, Wanted6 netip.Addr // by the user
	MAC             string     // likewise
	Aliases, Links  []string   // likewise; a link is NAME:ALIAS
	GatewayPriority int        // likewise
	Sysctls         []string   // likewise, as NAME=VALUE, with IFNAME for the device
	Name            string     // likewise, of the device
}

// idle is an endpoint of a container that does not run.
func (e *Endpoint) idle() *Endpoint {
	i := *e
	i.ID, i.Addr, i.Addr6, i.Device = "", netip.Addr{}, netip.Addr{}, ""
	return &i
}

// idle are a container's endpoints when it does not run.
func idle(all map[string]*Endpoint) map[string]*Endpoint {
	out := map[string]*Endpoint{}
	for name, e := range all {
		out[name] = e.idle()
	}
	return out
}

// mac is the address of the device.
func (e *Endpoint) mac() net.HardwareAddr {
	if m, err := net.ParseMAC(e.MAC); err == nil {
		return m
	}
	for _, a := range []netip.Addr{e.Addr, e.Addr6} {
		if a.IsValid() {
			return bridge.MAC(a)
		}
	}
	return nil
}

func (e *Endpoint) plane(n *Network) bridge.Endpoint {
	return bridge.Endpoint{ID: e.ID, Network: n.plane(), Addr: e.Addr, Addr6: e.Addr6, MAC: e.mac(), Device: e.Device, Sysctls: e.Sysctls}
}

// want reads what a user asks of an endpoint.
func (e *Endpoint) want(n *Network, s *network.EndpointSettings) error {
	if s == nil {
		return nil
	}
	if err := e.options(s.DriverOpts); err != nil {
		return err
	}
	cfg := s.IPAMConfig
	if cfg == nil {
		cfg = &network.EndpointIPAMConfig{}
	}
	if len(cfg.LinkLocalIPs) > 0 {
		return errs.Invalidf("link-local addresses of an endpoint are not supported by this engine")
	}
	if err := checkEndpoint(n, s, cfg); err != nil {
		return errs.Invalidf("invalid endpoint settings:\n%s", err)
	}
	if s.MacAddress != "" {
		if m, err := net.ParseMAC(s.MacAddress); err != nil || len(m) != 6 {
			return errs.Invalidf("invalid MAC address %s", s.MacAddress)
		}
	}
	e.Aliases, e.Links, e.MAC, e.GatewayPriority = s.Aliases, s.Links, s.MacAddress, s.GwPriority
	e.Wanted, _ = netip.ParseAddr(cfg.IPv4Address) // they were checked
	e.Wanted6, _ = netip.ParseAddr(cfg.IPv6Address)
	return nil
}

// The options of an endpoint.
const (
	EndpointSysctls = "com.docker.network.endpoint.sysctls"
	endpointDevice  = "com.docker.network.endpoint.ifname"
)

// sysctlRE is a setting of a device; its name is put in.
var sysctlRE = regexp.MustCompile(`^net\.[a-z0-9_]+\.[a-z0-9_]+\.IFNAME\.[a-z0-9_]+=[^/\n]*$`)

func (e *Endpoint) options(opts map[string]string) error {
	for k, v := range opts {
		switch k {
		case EndpointSysctls:
			for s := range strings.SplitSeq(v, ",") {
				if !sysctlRE.MatchString(s) {
					return errs.Invalidf("invalid sysctl %q of an endpoint: it should be net.FAMILY.WHAT.IFNAME.NAME=VALUE", s)
				}
				e.Sysctls = append(e.Sysctls, s)
			}
		case endpointDevice:
			if !nameRE.MatchString(v+"0") || len(v) > 15 {
				return errs.Invalidf("invalid name %q of a device", v)
			}
			e.Name = v
		default:
			return errs.Invalidf("the option %s of an endpoint is not supported by this engine", k)
		}
	}
	return nil
}

// checkEndpoint says what is wrong with the settings, in dockerd's words.
func checkEndpoint(n *Network, s *network.EndpointSettings, cfg *network.EndpointIPAMConfig) error {
	var all []error
	if n.Name == bridgeNetwork || !n.wired() {
		if cfg.IPv4Address != "" || cfg.IPv6Address != "" {
			all = append(all, errors.New("user specified IP address is supported on user defined networks only"))
		}
		if len(s.Aliases) > 0 {
			all = append(all, errors.New("network-scoped alias is supported only for containers in user defined networks"))
		}
		return errors.Join(all...)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	v4, v6 := n.subnets()
	return cfg.IsInRange(v4, v6)
}

// dnsNames are the names of a container on a network. The first is what its address is
// called.
func dnsNames(r Record, e *Endpoint) []string {
	var out []string
	for _, n := range append(append([]string{r.Name}, e.Aliases...), r.ID[:12], r.Config.Hostname) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// links are a container's own words for others on a network.
func (e *Endpoint) links() map[string]string {
	if len(e.Links) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, l := range e.Links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		out[strings.ToLower(alias)] = name
	}
	return out
}

// place is an endpoint and its network.
type place struct {
	name string
	e    *Endpoint
	n    *Network
}

// places are a container's, that which leads outside first: the order is libnetwork's.
func (d *Daemon) places(r Record) []place {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.placesLocked(r)
}

func (d *Daemon) placesLocked(r Record) []place {
	var out []place
	for name, e := range r.Endpoints {
		if n := d.nets[e.Network]; n != nil {
			out = append(out, place{name, e, n})
		}
	}
	families := func(p place) (n int) {
		for _, a := range []netip.Addr{p.e.Addr, p.e.Addr6} {
			if a.IsValid() {
				n++
			}
		}
		return n
	}
	slices.SortFunc(out, func(a, b place) int {
		if a.n.Internal != b.n.Internal && a.e.GatewayPriority == b.e.GatewayPriority {
			if a.n.Internal {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.e.GatewayPriority, a.e.GatewayPriority), cmp.Compare(families(b), families(a)), cmp.Compare(a.name, b.name))
	})
	return out
}

// ways are the places by which a container gets out, for each family of addresses.
func ways(places []place) (four, six *place) {
	for i, p := range places {
		if !p.n.wired() || p.n.Internal {
			continue
		}
		if four == nil && p.e.Addr.IsValid() {
			four = &places[i]
		}
		if six == nil && p.e.Addr6.IsValid() {
			six = &places[i]
		}
	}
	return four, six
}

// joining puts the places into the order in which a container gets its devices: the
// network that it was made on first.
func joining(r Record, places []place) []place {
	out := slices.Clone(places)
	first := func(p place) int {
		if mode := string(r.HostConfig.NetworkMode); mode == p.name || mode == p.n.ID {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b place) int { return cmp.Or(first(a)-first(b), cmp.Compare(a.name, b.name)) })
	return out
}
