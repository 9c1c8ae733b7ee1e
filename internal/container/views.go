package container

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/storage"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/errs"
)

// Inspect is all there is to know of a container.
func (d *Daemon) Inspect(ref string) (Inspection, error) {
	c, err := d.find(ref)
	if err != nil {
		return Inspection{}, err
	}
	c.mu.Lock()
	var execs []string
	for id := range c.execs {
		execs = append(execs, id)
	}
	c.mu.Unlock()
	r := c.record()
	file := func(name string) string {
		if r.State.StartedAt.IsZero() {
			return ""
		}
		return d.dir(r.ID) + "/" + name
	}
	return Inspection{
		ContainerJSONBase: &container.ContainerJSONBase{ID: r.ID, Created: r.Created.Format(time.RFC3339Nano), Path: r.Path, Args: list(r.Args), State: stateView(r), Image: r.Image,
			ResolvConfPath: file("resolv.conf"), HostnamePath: file("hostname"), HostsPath: file("hosts"), Name: "/" + r.Name, RestartCount: r.Restarts, Driver: d.engine.Snapshotter,
			Platform: "linux", ExecIDs: execs, HostConfig: d.linkViews(r), GraphDriver: storage.DriverData{Name: d.engine.Snapshotter}},
		ImageManifestDescriptor: r.Manifest,
		Mounts:                  points(r.Mounts), Config: r.Config, NetworkSettings: d.networkSettings(r),
	}, nil
}

func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func points(l []container.MountPoint) []container.MountPoint {
	if l == nil {
		return []container.MountPoint{}
	}
	return l
}

func stateView(r Record) *container.State {
	s := r.State
	return &container.State{Status: s.Status, Health: s.Health, Running: s.Running() || s.Status == container.StateRestarting, Paused: s.Status == container.StatePaused,
		Restarting: s.Status == container.StateRestarting, OOMKilled: s.OOMKilled, Pid: s.Pid, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: s.StartedAt.Format(time.RFC3339Nano), FinishedAt: s.FinishedAt.Format(time.RFC3339Nano)}
}

// Inspection is container.InspectResponse on the wire. The library has marked what
// it says of the bridge network as deprecated, but clients older than 1.24 read it.
type Inspection struct {
	*container.ContainerJSONBase
	Mounts                  []container.MountPoint
	Config                  *container.Config
	NetworkSettings         NetworkSettings
	ImageManifestDescriptor *ocispec.Descriptor `json:",omitempty"`
}

// NetworkSettings is a container's networking. The fields that nothing fills are
// those that dockerd does not fill either.
type NetworkSettings struct {
	Bridge, SandboxID, SandboxKey                string
	Ports                                        nat.PortMap
	HairpinMode                                  bool
	LinkLocalIPv6Address                         string
	LinkLocalIPv6PrefixLen                       int
	SecondaryIPAddresses, SecondaryIPv6Addresses []network.Address
	EndpointID, Gateway, GlobalIPv6Address       string // these and the next: of the network bridge
	GlobalIPv6PrefixLen                          int
	IPAddress                                    string
	IPPrefixLen                                  int
	IPv6Gateway, MacAddress                      string
	Networks                                     map[string]*network.EndpointSettings
}

func (d *Daemon) networkSettings(r Record) NetworkSettings {
	out := NetworkSettings{Networks: d.endpoints(r), Ports: nat.PortMap{}}
	if r.State.Running() {
		for p := range r.Config.ExposedPorts {
			out.Ports[p] = nil
		}
		for p, b := range r.Bound {
			out.Ports[p] = b
		}
		if e := out.Networks[bridgeNetwork]; e != nil {
			out.EndpointID, out.Gateway, out.IPAddress, out.IPPrefixLen, out.MacAddress = e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
			out.IPv6Gateway, out.GlobalIPv6Address, out.GlobalIPv6PrefixLen = e.IPv6Gateway, e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
		}
		if mode := r.HostConfig.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
			out.SandboxID, out.SandboxKey = r.ID, d.plane.Path(r.ID)
		}
	}
	return out
}

func (d *Daemon) endpoints(r Record) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for name, e := range r.Endpoints {
		s := &network.EndpointSettings{NetworkID: e.Network, EndpointID: e.ID, Aliases: e.Aliases, Links: e.Links, GwPriority: e.GatewayPriority}
		if e.Wanted.IsValid() || e.Wanted6.IsValid() {
			s.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: text(e.Wanted), IPv6Address: text(e.Wanted6)}
		}
		n, err := d.findNetwork(e.Network)
		if err == nil && n.named() {
			s.DNSNames = dnsNames(r, e)
		}
		if err == nil {
			e.show(n, s)
		}
		out[name] = s
	}
	return out
}

// show fills in what an endpoint has while its container runs.
func (e *Endpoint) show(n *Network, s *network.EndpointSettings) {
	if e.Addr.IsValid() {
		s.Gateway, s.IPAddress, s.IPPrefixLen = text(n.V4.Gateway), e.Addr.String(), n.V4.Subnet.Bits()
	}
	if e.Addr6.IsValid() {
		s.IPv6Gateway, s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = text(n.V6.Gateway), e.Addr6.String(), n.V6.Subnet.Bits()
	}
	if m := e.mac(); m != nil {
		s.MacAddress = m.String()
	}
	if n.Internal {
		s.Gateway, s.IPv6Gateway = "", ""
	}
}

// text is an address in words; "" when there is none.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// status is a container's state in words.
func status(s State, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch {
	case s.Status == container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case s.Status == container.StatePaused:
		return fmt.Sprintf("Up %s (Paused)", ago(s.StartedAt))
	case s.Running() && s.Health != nil && s.Health.Status == container.Starting:
		return fmt.Sprintf("Up %s (health: starting)", ago(s.StartedAt))
	case s.Running() && s.Health != nil:
		return fmt.Sprintf("Up %s (%s)", ago(s.StartedAt), s.Health.Status)
	case s.Running():
		return "Up " + ago(s.StartedAt)
	case s.StartedAt.IsZero():
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
}

// ListOptions are which containers a client wants to see.
type ListOptions struct {
	All     bool
	Limit   int
	Filters filters.Args
}

// containerFilters are those that are honoured.
var containerFilters = map[string]bool{"ancestor": true, "before": true, "exited": true, "expose": true, "health": true, "id": true, "label": true, "name": true, "network": true, "publish": true, "since": true, "status": true, "volume": true}

// List gives containers, the newest first.
func (d *Daemon) List(opt ListOptions, isImage func(id, name string) bool) ([]container.Summary, error) {
	if err := opt.Filters.Validate(containerFilters); err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	if err := checkFilters(opt.Filters); err != nil {
		return nil, err
	}
	var before, since time.Time
	for key, at := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, ref := range opt.Filters.Get(key) {
			c, err := d.find(ref)
			if err != nil {
				return nil, err
			}
			*at = c.record().Created
		}
	}
	var recs []Record
	for _, c := range d.list() {
		recs = append(recs, c.record())
	}
	slices.SortFunc(recs, func(a, b Record) int { return b.Created.Compare(a.Created) })
	all := opt.All || opt.Limit > 0 || opt.Filters.Contains("status") || opt.Filters.Contains("exited")
	out, links := []container.Summary{}, d.linkNames()
	for _, r := range recs {
		if !all && !r.State.Running() && r.State.Status != container.StateRestarting || !before.IsZero() && !r.Created.Before(before) || !since.IsZero() && !r.Created.After(since) {
			continue
		}
		if !d.matches(r, opt.Filters, isImage) {
			continue
		}
		out = append(out, d.summary(r, links[r.ID]))
		if opt.Limit > 0 && len(out) == opt.Limit {
			break
		}
	}
	return out, nil
}

func (d *Daemon) matches(r Record, f filters.Args, isImage func(id, name string) bool) bool {
	any := func(key string, ok func(v string) bool) bool {
		return !f.Contains(key) || slices.ContainsFunc(f.Get(key), ok)
	}
	return any("id", func(v string) bool { return matchText(v, r.ID) }) &&
		any("name", func(v string) bool { return matchText(v, "/"+r.Name) || matchText(v, r.Name) }) &&
		f.MatchKVList("label", r.Config.Labels) &&
		any("status", func(v string) bool { return string(r.State.Status) == v }) &&
		any("exited", func(v string) bool {
			return r.State.Status == container.StateExited && strconv.Itoa(r.State.ExitCode) == v
		}) &&
		any("health", func(v string) bool {
			if r.State.Health == nil {
				return v == string(container.NoHealthcheck)
			}
			return string(r.State.Health.Status) == v
		}) &&
		any("ancestor", func(v string) bool { return isImage(r.Image, v) }) &&
		any("network", func(v string) bool { return d.onNetwork(r, v) }) &&
		any("volume", func(v string) bool {
			return slices.ContainsFunc(r.Mounts, func(m container.MountPoint) bool { return m.Name == v || m.Destination == v })
		}) &&
		(!f.Contains("publish") && !f.Contains("expose") || d.hasPort(r, f))
}

// checkFilters refuses values that are none.
func checkFilters(f filters.Args) error {
	for _, s := range f.Get("status") {
		if err := container.ValidateContainerState(s); err != nil {
			return errs.Invalidf("invalid filter 'status=%s'", s)
		}
	}
	for _, s := range f.Get("health") {
		if err := container.ValidateHealthStatus(s); err != nil {
			return errs.Invalidf("invalid filter 'health=%s'", s)
		}
	}
	for _, key := range []string{"publish", "expose"} {
		for _, v := range f.Get(key) {
			if strings.Contains(v, ":") {
				return errs.Invalidf("filter for '%s' should not contain ':': %s", key, v)
			}
			if _, _, err := nat.ParsePortRange(portOf(v)); err != nil {
				return errs.Invalidf("error while looking up for %s %s: %s", key, v, err)
			}
		}
	}
	return nil
}

func portOf(v string) string {
	_, p := nat.SplitProtoPort(v)
	return p
}

// hasPort tells whether a container that runs has one of the ports that filters ask for:
// of the host with publish, its own with expose.
func (d *Daemon) hasPort(r Record, f filters.Args) bool {
	has := func(key string, p uint16, proto string) bool {
		return p != 0 && slices.ContainsFunc(f.Get(key), func(v string) bool {
			want, _ := nat.SplitProtoPort(v)
			first, last, err := nat.ParsePortRange(portOf(v))
			return err == nil && want == proto && uint64(p) >= first && uint64(p) <= last
		})
	}
	return slices.ContainsFunc(d.summary(r, nil).Ports, func(p container.Port) bool {
		return has("publish", p.PublicPort, p.Type) || has("expose", p.PrivatePort, p.Type)
	})
}

// matchText takes a regular expression, or text as it is when that is none.
func matchText(want, is string) bool {
	re, err := regexp.Compile(want)
	if err != nil {
		return want == is
	}
	return re.MatchString(is)
}

func (d *Daemon) onNetwork(r Record, ref string) bool {
	n, err := d.findNetwork(ref)
	return err == nil && r.Endpoints[n.Name] != nil
}

func (d *Daemon) summary(r Record, links []string) container.Summary {
	s := container.Summary{ID: r.ID, Names: append([]string{"/" + r.Name}, links...), Image: r.Config.Image, ImageID: r.Image, Command: strings.Join(append([]string{r.Path}, r.Args...), " "),
		Created: r.Created.Unix(), Labels: over(r.Config.Labels, nil), State: r.State.Status, Status: status(r.State, time.Now()), Mounts: points(r.Mounts),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: d.endpoints(r)}, Ports: []container.Port{}}
	s.HostConfig.NetworkMode, s.HostConfig.Annotations, s.ImageManifestDescriptor = string(r.HostConfig.NetworkMode), r.HostConfig.Annotations, r.Manifest
	for _, p := range d.published(r) {
		s.Ports = append(s.Ports, container.Port{IP: p.HostIP.String(), PrivatePort: p.To.Port(), PublicPort: p.HostPort, Type: p.Proto})
	}
	if r.State.Running() {
		for p := range r.Config.ExposedPorts {
			if len(r.Bound[p]) == 0 {
				s.Ports = append(s.Ports, container.Port{PrivatePort: uint16(p.Int()), Type: p.Proto()})
			}
		}
	}
	return s
}

// PruneContainers removes those that do not run.
func (d *Daemon) PruneContainers(keep func(created time.Time, labels map[string]string) bool) (gone []string, err error) {
	gone = []string{}
	for _, c := range d.list() {
		r := c.record()
		if r.State.Running() || r.State.Status == container.StateRestarting || keep(r.Created, r.Config.Labels) {
			continue
		}
		if err := d.Remove(c.id, false, false); err != nil {
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
				continue // someone else was quicker
			}
			return gone, err
		}
		gone = append(gone, c.id)
	}
	return gone, nil
}
