package region

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/rbd"
	"github.com/strata-cloud/strata/internal/blockdev/vault"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/dataplane/balancer"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/csi"
	"github.com/strata-cloud/strata/internal/kube/gate"
	"github.com/strata-cloud/strata/internal/kube/images"
	"github.com/strata-cloud/strata/internal/kube/podnet"
	"github.com/strata-cloud/strata/internal/kube/tokenreview"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/node/balance"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
)

// host is this machine as a node of the pool.
type host struct {
	cfg      *Config
	control  hostControl
	info     nodeapi.NodeInfo
	why      string // of the acceleration
	machines *hypervisor.QEMU
	plane    *dataplane.Plane
	storage  *node.Storage
	agent    *node.Agent
	balance  *balance.Agent

	containers *containers // nil: there are none here
	clusters   *node.Clusters
	pods       *podnet.Network
	gates      *gate.Gates
	reviews    *tokenreview.Server
	podVolumes *csi.Driver
	images     *images.Server
	copies     *kube.Copies
}

// hostControl is the control plane as this machine sees it.
type hostControl interface {
	node.Control
	node.ExportControl
	balance.Control
	node.ClusterControl
	podnet.Control
	tokenreview.Reviewer
	csi.Control
	images.Control
	// OpenBlob gives content of the registry, by its digest.
	OpenBlob(ctx context.Context, digest string) (io.ReadCloser, error)
	// Mirrors is nodelink.Upstream's.
	Mirrors(ctx context.Context) ([]string, error)
}

// conn is how the control plane reaches this machine.
type conn struct {
	*node.Agent
	*node.Storage
	*containers
}

var (
	_ nodes.Storage = conn{}
	_ nodes.Mover   = conn{}

	_ nodes.Containers = conn{}
)

// newHost opens this machine's servers, networks and volumes for an agent that
// follows the control plane.
func newHost(ctx context.Context, cfg *Config, control hostControl) (*host, error) {
	accel, reason := hypervisor.Probe(ctx, cfg.DataDir)
	cfg.Log.Info("acceleration", "accel", accel, "why", reason)
	cgroups, err := cgroup.New(Name(cfg.DataDir))
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	h := &host{cfg: cfg, control: control, why: reason}
	h.info, err = node.Describe(ctx, cfg.Node, cfg.addr(), string(accel), cfg.DataDir)
	if err != nil {
		return nil, err
	}
	h.info.TunnelAddr = cfg.tunnel()
	devices, err := providerNetworks(cfg)
	if err != nil {
		return nil, err
	}
	h.info.Physicals = slices.Sorted(maps.Keys(devices))
	h.machines, err = hypervisor.New(ctx, hypervisor.Config{Dir: cfg.instancesDir(), UID: cfg.QEMUUser, GID: cfg.QEMUUser,
		Groups: kvmGroups(), Accel: accel, Cgroups: cgroups, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	public := netip.MustParsePrefix(cfg.PublicCIDR)
	h.plane, err = dataplane.New(dataplane.Config{Name: Name(cfg.DataDir), HostLink: hostLink(cfg.DataDir), Tunnel: cfg.tunnel(),
		External: []dataplane.External{{CIDR: public, HostAddr: public.Addr().Next(), Device: devices[network.PhysicalPublic]}}, Providers: devices,
		Metadata: func(ctx context.Context, device string, w http.ResponseWriter, r *http.Request) {
			h.agent.Metadata(ctx, device, w, r)
		},
		OnStatus: func(s nodeapi.PortStatus) { h.agent.PortChanged(s) }, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	if h.storage, err = newStorage(ctx, h, cgroups); err != nil {
		return nil, err
	}
	leases, err := hypervisor.OpenLeases(cfg.path(leasesDir), cfg.instancesDir(), true)
	if err != nil {
		return nil, err
	}
	h.agent, err = node.New(node.Options{ID: h.info.ID, Leases: leases, Control: control, Machines: h.machines, Plane: h.plane, Volumes: h.storage, Log: cfg.Log, Addr: h.info.Addr, CacheDir: cfg.path("bases"), TemplateDir: cfg.path("templates")})
	if err != nil {
		return nil, err
	}
	h.balance = balance.New(control, &balancer.Kernel{Name: Name(cfg.DataDir), Plug: h.plane.Veth}, h.info.ID, cfg.Log)
	program, err := shim()
	if err != nil {
		return nil, err
	}
	mounts, err := fsmount.New(fsmount.Config{Dir: cfg.path(mountsDir), Program: program, Tools: qemu.Tools{UID: cfg.QEMUUser, GID: cfg.QEMUUser}, Cgroups: cgroups, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	if h.containers, err = openContainers(ctx, cfg, containerCloud{control, h.plane, mounts}); err != nil {
		return nil, err
	}
	h.info.Containers = h.containers != nil
	podMounts, err := fsmount.New(fsmount.Config{Dir: cfg.path(podMountsDir), Program: program, Tools: mounts.Tools, Cgroups: cgroups, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	machine, err := newKubeMachine(cfg, program, podnet.Config{Control: control, Plug: h.plane.Veth}, control, control)
	if err != nil {
		return nil, err
	}
	machine.volumes = machine.newVolumes(control, podMounts)
	h.pods, h.gates, h.reviews, h.podVolumes, h.images, h.copies = machine.pods, machine.gates, machine.reviews, machine.volumes, machine.images, machine.Copies
	h.clusters = node.NewClusters(control, machine, cfg.Log)
	return h, nil
}

// newStorage opens this machine's volumes.
func newStorage(ctx context.Context, h *host, groups *cgroup.Manager) (*node.Storage, error) {
	cfg := h.cfg
	tools := qemu.Tools{UID: cfg.QEMUUser, GID: cfg.QEMUUser}
	pools, err := volumePools(cfg)
	if err != nil {
		return nil, err
	}
	driver, err := local.WithPools(ctx, pools, tools)
	if err != nil {
		return nil, err
	}
	files, err := vault.NewFiles(cfg.path(volumeBackupsDir))
	if err != nil {
		return nil, err
	}
	exports, err := export.New(export.Config{Dir: cfg.path(exportsDir), Tools: tools, Cgroups: groups, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	drivers := map[string]volumes.Driver{local.Name: driver}
	ceph, err := cephDriver(ctx, cfg, tools)
	if err != nil {
		return nil, err
	}
	if ceph != nil {
		drivers[rbd.Name] = ceph
		h.info.SharedPools = []string{ceph.Cluster()}
	}
	return node.NewStorage(ctx, node.StorageOptions{Drivers: drivers, Vault: vault.New(files), Exports: exports, Machines: h.machines,
		Base: func(ctx context.Context, image string, use func(blockdev.Base) error) error {
			return h.agent.UseBase(ctx, image, use)
		},
		Dir: cfg.path(attachedDir), Log: cfg.Log, Node: h.info.ID, Addr: cfg.addr(), Control: h.control})
}

// run works until ctx ends. Guests and their networking stay as they are.
func (h *host) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { h.storage.Run(ctx) })
	group.Go(func() { h.balance.Run(ctx) })
	group.Go(func() { h.clusters.Run(ctx) })
	if h.containers != nil {
		group.Go(func() { h.containers.run(ctx, h.cfg) })
	}
	h.agent.Run(ctx)
	group.Wait()
	h.machines.Close()
	h.pods.Close()
	h.gates.Close()
	h.reviews.Close()
	h.podVolumes.Close()
	h.images.Close()
	if err := h.plane.Close(); err != nil {
		h.cfg.Log.Warn("closing the data plane", "err", err)
	}
}

// kvmGroups are the groups that may open /dev/kvm.
func kvmGroups() []int {
	fi, err := os.Stat("/dev/kvm")
	if err != nil {
		return nil
	}
	return fileGroup(fi)
}
