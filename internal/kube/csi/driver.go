package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Control is the region as this machine's part sees it.
type Control interface {
	// CSI answers a call of the interface for a cluster whose control plane is here.
	CSI(ctx context.Context, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error)
	// ClusterVolume says how a volume is reached that is attached to this node, which works
	// for the cluster. NotFound: it is not attached.
	ClusterVolume(ctx context.Context, cluster, volume string) (*nodeapi.ContainerVolume, error)
}

// Config says where the driver is.
type Config struct {
	Control Control
	// Relay is the socket beside a cluster's control plane, Node that of the machine as a
	// worker, Kubelet the directory of its kubelet. All are short.
	Relay, Node, Kubelet func(cluster string) string
	// Disks has what the machine has of the cluster's volumes.
	Disks func(cluster string) Disks
	// Most is how many volumes the machine takes of a cluster.
	Most int
	Log  *slog.Logger
}

// Driver serves the interface on this machine.
type Driver struct {
	Config
	mu     sync.Mutex
	relays map[string]*server
	nodes  map[string][]*server
}

// New makes what Ensure brings to work.
func New(c Config) *Driver {
	return &Driver{Config: c, relays: map[string]*server{}, nodes: map[string][]*server{}}
}

// Ensure serves a cluster's controllers or kubelet, as the part says. What it does not say
// ends, after the programs that call it, with the volumes of a worker. It may be repeated.
func (d *Driver) Ensure(ctx context.Context, p nodeapi.KubePart) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all error
	switch s := d.relays[p.ID]; {
	case p.Control == nil && s != nil:
		s.close()
		delete(d.relays, p.ID)
	case p.Control != nil && s == nil:
		s, err := serve(d.Relay(p.ID), relay(d.Control, p.ID))
		if err != nil {
			all = fmt.Errorf("the socket of volumes' controllers: %w", err)
			break
		}
		d.relays[p.ID] = s
	}
	switch have := d.nodes[p.ID]; {
	case p.Worker == nil:
		d.endNode(p.ID)
		all = errors.Join(all, d.Disks(p.ID).Clear(ctx))
	case have == nil:
		all = errors.Join(all, d.serveNode(p))
	}
	return all
}

func (d *Driver) serveNode(p nodeapi.KubePart) error {
	endpoint := d.Node(p.ID)
	n := &node{name: p.Worker.Name, disks: d.Disks(p.ID), most: d.Most}
	s := grpc.NewServer()
	csi.RegisterIdentityServer(s, n)
	csi.RegisterNodeServer(s, n)
	own, err := serve(endpoint, s)
	if err != nil {
		return fmt.Errorf("the socket of volumes: %w", err)
	}
	r := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	r.RegisterService(registration(), &registrar{endpoint: endpoint, log: d.Log})
	told, err := serve(filepath.Join(d.Kubelet(p.ID), "plugins_registry", "strata.sock"), r)
	if err != nil {
		own.close()
		return fmt.Errorf("the socket where kubelet finds the driver of volumes: %w", err)
	}
	d.nodes[p.ID] = []*server{told, own}
	return nil
}

func (d *Driver) endNode(cluster string) {
	for _, s := range d.nodes[cluster] {
		s.close()
	}
	delete(d.nodes, cluster)
}

// Close ends serving. Volumes stay mounted.
func (d *Driver) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, s := range d.relays {
		s.close()
		delete(d.relays, id)
	}
	for id := range d.nodes {
		d.endNode(id)
	}
}
