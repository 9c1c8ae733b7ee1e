package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/container/shims"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/kube/csi"
	"github.com/strata-cloud/strata/internal/kube/gate"
	"github.com/strata-cloud/strata/internal/kube/images"
	"github.com/strata-cloud/strata/internal/kube/podnet"
	"github.com/strata-cloud/strata/internal/kube/tokenreview"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// resourcesForCluster shows the service of clusters what its templates name.
type resourcesForCluster struct{ r *Region }

func (s resourcesForCluster) Flavor(ctx context.Context, c *policy.Credentials, ref string) (cluster.Size, error) {
	vcpus, memory, err := s.r.Compute.FlavorSize(ctx, c, ref)
	return cluster.Size{VCPUs: vcpus, MemoryMiB: memory}, err
}

func (s resourcesForCluster) Image(ctx context.Context, c *policy.Credentials, ref string) error {
	_, err := s.r.Image.Image(ctx, c, ref)
	if errs.Is(err, errs.NotFound) {
		_, err = s.r.Image.Find(c, ref)
	}
	return err
}

func (s resourcesForCluster) HasProject(ctx context.Context, id string) bool {
	return s.r.hasProject(ctx, id)
}

// identityForCluster shows it whose tokens are whose.
type identityForCluster struct{ *identity.Service }

func (s identityForCluster) DomainName(ctx context.Context, id string) string {
	d, err := s.Project(ctx, id)
	if err != nil {
		return ""
	}
	return d.Name
}

// poolForCluster shows it the machines.
type poolForCluster struct{ r *Region }

// Members are this machine, or all that are of the control plane.
func (p poolForCluster) Members() []string {
	if p.r.council == nil {
		return []string{p.r.cfg.Node}
	}
	var out []string
	for _, m := range p.r.council.member.Peers() {
		if m.Name != "" && !m.Learner {
			out = append(out, m.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Address is where others reach a node. A cloud that no other machine reaches has the
// external network's address, which its guests and the pods do.
func (p poolForCluster) Address(node string) netip.Addr {
	n, err := p.r.Nodes.Infos.Get(node)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(n.Addr)
	if err != nil {
		return netip.Addr{}
	}
	if addr.IsLoopback() {
		public, err := netip.ParsePrefix(p.r.cfg.PublicCIDR)
		if err != nil {
			return netip.Addr{}
		}
		return public.Addr().Next()
	}
	return addr
}

func (p poolForCluster) Takes(node string) bool { return p.r.Compute.Takes(node) }

// kubeDir has the parts of clusters that run on this machine, kubeletDir what pods have.
const (
	kubeDir    = "kube"
	kubeletDir = "kubelet"
)

// The programs of clusters stand beside ours when they were built.
const (
	kubeProgram  = "strata-kube"
	pauseProgram = "strata-pause"
	csiProgram   = "strata-csi"
)

// kubeMachine fits package kube, and the network of pods, to the agent.
type kubeMachine struct {
	*kube.Machine
	pods    *podnet.Network
	gates   *gate.Gates
	reviews *tokenreview.Server
	images  *images.Server
	volumes *csi.Driver // nil: all that there is of them is taken away otherwise

	podMounts string // the directory of volumes that pods have
}

// newVolumes makes the driver of clusters' volumes.
func (m kubeMachine) newVolumes(control csi.Control, mounts *fsmount.Manager) *csi.Driver {
	return csi.New(csi.Config{Control: control, Relay: m.ControlCSI, Node: m.NodeCSI, Kubelet: m.KubeletDir,
		Disks: func(cluster string) csi.Disks {
			return csi.Remote{Cluster: cluster, Control: control, Mounts: mounts}
		}, Most: csi.MostRemote, Log: m.Log})
}

func newKubeMachine(cfg *Config, shim string, pods podnet.Config, reviewer tokenreview.Reviewer, registry images.Control) (kubeMachine, error) {
	// A program is found again by its directory, which the kernel tells without links.
	dir, err := filepath.EvalSymlinks(cfg.DataDir)
	if err != nil {
		return kubeMachine{}, err
	}
	name, programs := Name(cfg.DataDir), filepath.Dir(shim)
	m := &kube.Machine{Dir: filepath.Join(dir, kubeDir), Kubelet: filepath.Join(dir, kubeletDir), Run: filepath.Join("/run/strata", name+"-kube"), Program: filepath.Join(programs, kubeProgram), Volumes: filepath.Join(programs, csiProgram), Pause: filepath.Join(programs, pauseProgram),
		Shim: shim, ShimEnv: shims.Plain + "=1", Groups: name + "-kube", Copies: &kube.Copies{Dir: cfg.path(copiesDir)}, Log: cfg.Log}
	if pods.Host, err = netns.Current(); err != nil {
		return kubeMachine{}, err
	}
	pods.Name, pods.Plugin, pods.Dirs, pods.Socket, pods.TunnelPort, pods.Log = name, shim, m.CNI, m.CNISocket, dataplane.TunnelPort, cfg.Log
	pods.Forward = func(on bool) error {
		if on {
			return dataplane.TakeForward(pods.Host, name+"-pods")
		}
		return dataplane.GiveForward(pods.Host, name+"-pods")
	}
	pods.Forward6 = func(on bool) error {
		if on {
			return dataplane.TakeForward6(pods.Host, name+"-pods")
		}
		return dataplane.GiveForward6(pods.Host, name+"-pods")
	}
	gates := gate.New(gate.Config{Name: name, Host: pods.Host, Socket: m.ControlGate, Plug: pods.Plug, Log: cfg.Log})
	return kubeMachine{Machine: m, podMounts: cfg.path(podMountsDir), pods: podnet.New(pods), gates: gates, reviews: tokenreview.New(reviewer, cfg.Log),
		images: images.New(images.Config{Control: registry, Dir: m.Registries, Socket: m.LoginSocket, Log: cfg.Log})}, nil
}

// plugLimit bounds how long one attempt waits for the data plane to know the node's port.
const plugLimit = 5 * time.Second

// Ensure implements node.ClusterMachine. A worker's programs wait for the network of pods.
func (m kubeMachine) Ensure(ctx context.Context, p nodeapi.KubePart) error {
	if _, err := os.Stat(m.Program); err != nil {
		return fmt.Errorf("this machine cannot run Kubernetes: %w; make kube builds it", err)
	}
	if err := m.review(p); err != nil {
		return err
	}
	return errors.Join(m.ensure(ctx, p), m.open(ctx, p))
}

// ensure has the programs run, and what they call here served.
func (m kubeMachine) ensure(ctx context.Context, p nodeapi.KubePart) error {
	if p.Worker != nil {
		limit, cancel := context.WithTimeout(ctx, plugLimit)
		defer cancel()
		if err := m.pods.Ensure(limit, p); err != nil {
			return errors.Join(err, m.Machine.Ensure(ctx, controlOf(p), nil))
		}
		if err := m.images.Ensure(ctx, p); err != nil {
			return errors.Join(err, m.Machine.Ensure(ctx, controlOf(p), nil))
		}
	}
	if err := errors.Join(m.Keep(ctx, p.ID, controlOf(p), kube.WorkerOf(p)), m.volumes.Ensure(ctx, p)); err != nil || p.Worker != nil {
		return err
	}
	return errors.Join(m.images.Remove(p.ID), m.pods.Remove(ctx, p.ID))
}

// open has a control plane here reach its cluster, and nobody else: after its programs have
// started, or have ended.
func (m kubeMachine) open(ctx context.Context, p nodeapi.KubePart) error {
	if p.Control == nil {
		return m.gates.Remove(p.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, plugLimit)
	defer cancel()
	return m.gates.Ensure(ctx, gate.Want{Cluster: p.ID, Port: p.Control.Gate, Network: p.PodCIDR, Network6: p.PodCIDR6, Machines: p.Control.Machines, Beside: controlOf(p).Beside()})
}

// review has tokens judged for a control plane here, and for no other.
func (m kubeMachine) review(p nodeapi.KubePart) error {
	if p.Control == nil {
		m.reviews.Remove(p.ID)
		return nil
	}
	e, err := m.Reviews(controlOf(p))
	if err != nil {
		return err
	}
	return m.reviews.Ensure(p.ID, e)
}

// Remove implements node.ClusterMachine. What does not end waits for a volume that nobody
// answers for any more, perhaps: then that goes first.
func (m kubeMachine) Remove(ctx context.Context, id string) error {
	m.reviews.Remove(id)
	if err := m.Keep(ctx, id, nil, nil); err != nil {
		if lost := m.abandon(ctx, id); lost != nil {
			return errors.Join(err, lost)
		}
		if err := m.Keep(ctx, id, nil, nil); err != nil {
			return err
		}
	}
	if m.volumes != nil {
		if err := m.volumes.Ensure(ctx, nodeapi.KubePart{ID: id}); err != nil {
			return err
		}
	}
	if err := errors.Join(m.images.Remove(id), m.pods.Remove(ctx, id), m.gates.Remove(id)); err != nil {
		return err
	}
	return m.Machine.Remove(ctx, id)
}

// abandon takes away the volumes of a cluster's pods, whoever uses them.
func (m kubeMachine) abandon(ctx context.Context, id string) error {
	if m.volumes == nil {
		return fsmount.Reset(ctx, m.podMounts)
	}
	return m.volumes.Ensure(ctx, nodeapi.KubePart{ID: id})
}

// API implements node.ClusterMachine.
func (m kubeMachine) API(ctx context.Context, p nodeapi.KubePart) *nodeapi.KubeAPI {
	s, err := m.Observe(ctx, controlOf(p), p.Control.Gone)
	if err != nil {
		return &nodeapi.KubeAPI{Fault: err.Error()}
	}
	out := &nodeapi.KubeAPI{Version: s.Version}
	for _, n := range s.Nodes {
		out.Nodes = append(out.Nodes, nodeapi.KubeNode(n))
	}
	return out
}

// List implements node.ClusterMachine.
func (m kubeMachine) List() ([]string, error) {
	ids, err := m.Clusters()
	gates, also := m.gates.Clusters()
	ids = append(ids, gates...)
	slices.Sort(ids)
	return slices.Compact(ids), errors.Join(err, also)
}

func controlOf(p nodeapi.KubePart) *kube.Control {
	c := p.Control
	if c == nil {
		return nil
	}
	a := c.Authorities
	return &kube.Control{ID: p.ID, Name: c.Name, Address: c.Address, Pods: c.Pods, Services: c.Services, EtcdPort: c.EtcdPort, ReviewPort: c.ReviewPort, MetricsPort: c.MetricsPort, Generation: c.Generation, State: c.State, Sealed: c.Sealed,
		Authorities: authority.Set{Cluster: authority.Pair(a.Cluster), FrontProxy: authority.Pair(a.FrontProxy), Etcd: authority.Pair(a.Etcd), ServiceAccount: a.ServiceAccount}}
}

// endClusters removes what this machine does for clusters.
func endClusters(ctx context.Context, cfg *Config) error {
	if _, err := os.Stat(cfg.path(kubeDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	program, err := shim()
	if err != nil {
		return err
	}
	m, err := newKubeMachine(cfg, program, podnet.Config{}, nil, nil)
	if err != nil {
		return err
	}
	ids, err := m.List()
	for _, id := range ids {
		err = errors.Join(err, m.Remove(ctx, id))
	}
	return err
}
