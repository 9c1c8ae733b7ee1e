package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Config says what gates are made with.
type Config struct {
	Name   string                      // of the cloud on this machine
	Host   *netns.NS                   // the machine's namespace
	Socket func(cluster string) string // where the API server asks; its path is short
	// Plug puts a device of a port into a namespace (dataplane.Plane.Veth).
	Plug func(ctx context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error
	Log  *slog.Logger
}

// Gates are those of the control planes on this machine.
type Gates struct {
	cfg Config

	mu  sync.Mutex
	all map[string]*gate
}

// New makes what Ensure brings to work.
func New(cfg Config) *Gates { return &Gates{cfg: cfg, all: map[string]*gate{}} }

// device is what a gate's namespace has.
const device = "eth0"

func (g *Gates) prefix() string                  { return g.cfg.Name + "-gate-" }
func (g *Gates) namespace(cluster string) string { return g.prefix() + cluster }

// Ensure has a control plane's API server reach its cluster; it may be repeated. Machines
// are reached at once, the network when the gate has its place there.
func (g *Gates) Ensure(ctx context.Context, w Want) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	x := g.all[w.Cluster]
	if x == nil {
		var err error
		if x, err = g.open(&w); err != nil {
			return fmt.Errorf("the gate of cluster %s: %w", w.Cluster, err)
		}
		g.all[w.Cluster] = x
	}
	var inside *netns.NS
	if w.Port != nil {
		inside = x.inside
	}
	x.ways.Store(&ways{Want: w, host: g.cfg.Host, inside: inside})
	if w.Port == nil {
		return nil
	}
	if err := g.plug(ctx, x, &w); err != nil {
		return fmt.Errorf("the gate's place in the network of cluster %s: %w", w.Cluster, err)
	}
	x.ways.Store(&ways{Want: w, host: g.cfg.Host, inside: x.inside})
	return nil
}

// plug has the gate's device in its namespace.
func (g *Gates) plug(ctx context.Context, x *gate, w *Want) error {
	port := *w.Port
	if x.inside == nil {
		ns, _, err := netns.Ensure(g.namespace(x.cluster))
		if err != nil {
			return err
		}
		x.inside = ns
	}
	// A new namespace may forward as the machine does.
	if err := x.inside.Sysctl("net/ipv4/ip_forward", "0"); err != nil {
		return err
	}
	if w.Network6.IsValid() {
		if err := x.inside.Sysctl("net/ipv6/conf/all/forwarding", "0"); err != nil {
			return err
		}
	}
	h, err := x.inside.Link()
	if err != nil || plugged(h, &port, w.Network6) {
		return err
	}
	if err := unplug(h); err != nil {
		return err
	}
	port.Gateways, port.Routes = nil, nil // the network is all that is reached
	return g.cfg.Plug(ctx, x.inside, device, port)
}

// plugged tells whether the device is there as it should be, also in the network of IPv6 if
// there is one.
func plugged(h *netlink.Handle, port *nodeapi.ContainerPort, six netip.Prefix) bool {
	want, err := port.IPv4()
	if err != nil {
		return false
	}
	link, err := h.LinkByName(device)
	if err != nil || link.Attrs().HardwareAddr.String() != port.MAC || link.Attrs().Flags&net.FlagUp == 0 {
		return false
	}
	list, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(list) != 1 || !list[0].IP.Equal(want.AsSlice()) {
		return false
	}
	return !six.IsValid() || netns.HasAddr(h, link, port.In(six))
}

// unplug removes the device. Absent is fine.
func unplug(h *netlink.Handle) error {
	link, err := h.LinkByName(device)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %s: %w", device, err)
	}
	return nil
}

// Remove ends a cluster's gate and removes what it has on this machine; the port is the
// control plane's to remove. Absent is fine.
func (g *Gates) Remove(cluster string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if x := g.all[cluster]; x != nil {
		x.close()
		delete(g.all, cluster)
	}
	ns, err := netns.Open(g.namespace(cluster))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		defer ns.Close()
		h, err := ns.Link()
		if err != nil {
			return err
		}
		if err := unplug(h); err != nil {
			return err
		}
	}
	return errors.Join(netns.Remove(g.namespace(cluster)), removeFile(g.cfg.Socket(cluster)))
}

// Clusters lists those of which there is a gate here, also of an earlier agent.
func (g *Gates) Clusters() ([]string, error) {
	names, err := netns.List(g.prefix())
	for i := range names {
		names[i] = strings.TrimPrefix(names[i], g.prefix())
	}
	return names, err
}

// Close ends serving. Namespaces and devices stay.
func (g *Gates) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, x := range g.all {
		x.close()
		delete(g.all, id)
	}
}

// listen takes a socket's place, for nobody else's use.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := removeFile(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
