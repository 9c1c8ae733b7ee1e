package podnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/cni"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Control is the control plane as it gives this node's pods their ports.
type Control interface {
	// PodPort gives a pod its port, and may be repeated.
	PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error)
	// DropPodPort removes a pod's port; one that is not there is no error.
	DropPodPort(ctx context.Context, cluster, port string) error
	// PodPorts are the ids of the ports of all pods on this node.
	PodPorts(ctx context.Context, cluster string) ([]string, error)
}

// Config says what the network is made with.
type Config struct {
	Name    string                                  // of the cloud on this machine
	Plugin  string                                  // the path of the program that is cni.Program by that name
	Host    *netns.NS                               // the machine's namespace
	Dirs    func(cluster string) (bin, conf string) // where a runtime looks for plugins and networks
	Socket  func(cluster string) string             // for the plugin; its path is short
	Control Control
	// Plug puts a device for the node's port into the host's namespace (dataplane.Plane.Veth),
	// Forward has the machine forward or not as far as this package is concerned, Forward6 IPv6.
	Plug     func(ctx context.Context, ns *netns.NS, device string, p nodeapi.ContainerPort) error
	Forward  func(on bool) error
	Forward6 func(on bool) error
	// Own has the node's port be a device that the machine has already, by its MAC, as that
	// of a server: there is no Plug.
	Own        bool
	Closed     []netip.Addr // that pods do not reach
	TunnelPort int          // of the region's VXLAN; 0: it is not here
	Log        *slog.Logger
}

// Network is the pods' network on this machine: of one cluster, as a node works for one.
type Network struct {
	cfg Config

	mu      sync.Mutex // held by Ensure, Remove and Close
	now     *live
	cleared bool // there is nothing of any cluster

	// sweeping is held alone by who compares ports with records, shared by who makes both.
	sweeping sync.RWMutex
}

// live is the network of the cluster that this machine works for.
type live struct {
	*Network
	cluster string
	dir     string // of records
	socket  string
	server  *server

	mu     sync.Mutex
	want   nodeapi.KubePart
	device string // the device of the node's own port
	pods   map[string]*Pod
	swept  time.Time
	guard  *guard // nil: nobody says who we are to the cluster's API

	rules sync.Mutex
	table *nft.Table // that the kernel has; nil: not known
}

// Pod is the record of a pod's device.
type Pod struct {
	nodeapi.KubePod
	Netns string                `json:"netns"`
	Port  nodeapi.ContainerPort `json:"port"`
	Ports []cni.PortMapping     `json:"ports,omitempty"`
	Gone  bool                  `json:"gone,omitempty"` // but for its port, perhaps
}

func (p *Pod) key() string { return p.Sandbox + "-" + p.Device }

// New makes what Ensure brings to work.
func New(cfg Config) *Network { return &Network{cfg: cfg} }

// Ensure brings the network of a cluster's pods to work on this machine, which is a worker
// of it; it may be repeated.
func (n *Network) Ensure(ctx context.Context, want nodeapi.KubePart) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if want.Worker == nil || want.Worker.Port == nil {
		return errs.New(errs.Unavailable, "this node has no place in the network of the cluster's pods yet")
	}
	if n.now != nil && n.now.cluster != want.ID {
		return errs.Conflictf("this machine still has pods of cluster %s", n.now.cluster)
	}
	l := n.now
	n.cleared = false
	if l == nil {
		var err error
		if l, err = n.open(want); err != nil {
			return err
		}
	}
	device, err := n.deviceOf(want.Worker.Port)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.want, l.device = want, device
	l.mu.Unlock()
	if n.now == nil {
		if err := l.strays(); err != nil {
			return err
		}
	}
	if err := l.ensureNode(ctx); err != nil {
		return fmt.Errorf("the node's place in the network of pods: %w", err)
	}
	if err := l.apply(ctx); err != nil {
		return err
	}
	n.now = l
	if err := l.follow(ctx); err != nil {
		return err
	}
	if l.server == nil {
		if err := l.serve(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	if err := l.configure(); err != nil {
		return err
	}
	l.sweep(ctx)
	return nil
}

// open reads the records.
func (n *Network) open(want nodeapi.KubePart) (*live, error) {
	l := &live{Network: n, cluster: want.ID, want: want, dir: n.records(want.ID), socket: n.cfg.Socket(want.ID), pods: map[string]*Pod{}}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	all, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if filepath.Ext(e.Name()) != recordExt {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(l.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		var p Pod
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("record %s: %w", e.Name(), err)
		}
		l.pods[p.key()] = &p
	}
	return l, nil
}

const recordExt = ".json"

// records are beside the directories of the runtime.
func (n *Network) records(cluster string) string {
	bin, _ := n.cfg.Dirs(cluster)
	return filepath.Join(filepath.Dir(bin), "pods")
}

// write has the record of a pod on the disk.
func (l *live) write(p *Pod) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, p.key()+recordExt)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// configure tells the runtime of the network, after it works: from then on the runtime is ready.
func (l *live) configure() error {
	bin, conf := l.cfg.Dirs(l.cluster)
	for _, dir := range []string{bin, conf} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	link := filepath.Join(bin, cni.Program)
	if to, err := os.Readlink(link); err != nil || to != l.cfg.Plugin {
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(l.cfg.Plugin, link); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(map[string]any{"cniVersion": cni.Version, "name": "strata", "plugins": []any{map[string]any{
		"type": cni.Program, "socket": l.socket, "capabilities": map[string]bool{"portMappings": true}}}}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(conf, "10-strata.conflist")
	if old, err := os.ReadFile(path); err == nil && slices.Equal(old, raw) {
		return nil
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Remove takes away what this machine has of the network of a cluster's pods. The ports
// are the control plane's to remove. Absent is fine.
func (n *Network) Remove(ctx context.Context, cluster string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.now
	if l != nil && l.cluster != cluster {
		l = nil
	}
	switch {
	case l == nil && (n.now != nil || n.cleared):
		return nil // whatever there is belongs to another, or nothing is there
	case l == nil:
		l = &live{Network: n, cluster: cluster, dir: n.records(cluster)}
	default:
		l.close()
		n.now = nil
	}
	if err := l.clear(ctx); err != nil {
		return err
	}
	n.cleared = true
	_, conf := n.cfg.Dirs(cluster)
	return errors.Join(os.RemoveAll(conf), os.RemoveAll(n.cfg.Socket(cluster)), os.RemoveAll(filepath.Dir(l.dir)))
}

// Close ends serving the runtime. Pods keep their network.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now != nil {
		n.now.close()
		n.now = nil
	}
}

func (l *live) close() {
	if g := l.guarded(); g != nil {
		defer g.close() // after the last call
	}
	if l.server != nil {
		l.server.close()
		l.server = nil
	}
}
