package region

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/placement"
	"github.com/strata-cloud/strata/internal/store"
)

// control is the control plane as a node's agent sees it: the one in the same
// process directly, others by way of upstream.
type control struct {
	r    *Region
	node string
}

func (c control) Instances(ctx context.Context) <-chan node.InstanceEvent {
	out := make(chan node.InstanceEvent)
	go func() {
		defer close(out)
		// One that runs elsewhere now is deleted to this node.
		for ev := range c.r.Nodes.Instances.WatchBy(ctx, "node", c.node) {
			select {
			case out <- node.InstanceEvent{ID: ev.ID, Instance: ev.New, Synced: ev.Type == store.Synced}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c control) Networks(ctx context.Context) <-chan nodeapi.NetState {
	return c.r.Network.Watch(ctx, c.node)
}

func (c control) NetChanges(ctx context.Context) <-chan nodeapi.NetChange {
	return c.r.Network.Changes(ctx, c.node)
}

func (c control) Report(ctx context.Context, s nodeapi.InstanceStatus) error {
	return c.r.Nodes.Report(store.Freeing(ctx), s)
}

func (c control) ReportPorts(ctx context.Context, ports []nodeapi.PortStatus) error {
	return c.r.Network.ReportPorts(store.Freeing(ctx), c.node, ports)
}

func (c control) ReportNode(ctx context.Context, n nodeapi.NodeInfo) error {
	if n.ID != c.node {
		return errs.Forbiddenf("node %s cannot speak for %s", c.node, n.ID)
	}
	if err := c.r.DB.Txn(ctx, func(tx *store.Tx) error { return c.r.Nodes.Infos.TxPut(tx, &n) }); err != nil {
		return err
	}
	err := c.r.Placement.EnsureProvider(ctx, placement.Node{ID: n.ID, Name: n.Host, VCPUs: n.VCPUs, MemoryMiB: n.MemoryMiB, DiskGiB: n.DiskGiB, Traits: node.Traits(n)})
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	return nil
}

func (c control) Exports(ctx context.Context) <-chan []nodeapi.Export {
	return c.r.Volume.Attach().Watch(ctx, c.node)
}

func (c control) ReportExports(ctx context.Context, list []nodeapi.ExportStatus) error {
	return c.r.Volume.Attach().Report(store.Freeing(ctx), c.node, list)
}

func (c control) LoadBalancers(ctx context.Context) <-chan []nodeapi.LoadBalancer {
	return c.r.Balancers.Watch(ctx, c.node)
}

func (c control) ReportLoadBalancers(ctx context.Context, list []nodeapi.LoadBalancerStatus) error {
	return c.r.Balancers.Report(store.Freeing(ctx), c.node, list)
}

func (c control) Clusters(ctx context.Context) <-chan []nodeapi.KubePart {
	return c.r.Cluster.Watch(ctx, c.node)
}

func (c control) ReportClusters(ctx context.Context, list []nodeapi.KubeStatus) error {
	return c.r.Cluster.Report(store.Freeing(ctx), c.node, list)
}

func (c control) PodPort(ctx context.Context, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	return c.r.Cluster.PodPort(ctx, c.node, cluster, p)
}

func (c control) DropPodPort(ctx context.Context, cluster, port string) error {
	return c.r.Cluster.DropPodPort(store.Freeing(ctx), c.node, cluster, port)
}

func (c control) ReviewToken(ctx context.Context, cluster, token string) (*nodeapi.KubeUser, error) {
	return c.r.Cluster.ReviewToken(ctx, c.node, cluster, token)
}

func (c control) PodPorts(_ context.Context, cluster string) ([]string, error) {
	return c.r.Cluster.PodPorts(c.node, cluster), nil
}

func (c control) CSI(ctx context.Context, cluster, method string, body []byte) (*nodeapi.CSIAnswer, error) {
	return c.r.Cluster.CSI(ctx, c.node, cluster, method, body)
}

func (c control) ClusterVolume(ctx context.Context, cluster, volume string) (*nodeapi.ContainerVolume, error) {
	return c.r.Cluster.ClusterVolume(ctx, c.node, cluster, volume)
}

func (c control) PullLogin(_ context.Context, cluster string) (*nodeapi.KubeLogin, error) {
	return c.r.Cluster.PullLogin(c.node, cluster)
}

func (c control) ReportPassword(ctx context.Context, id, password string) error {
	return c.r.Compute.TakePassword(ctx, id, password)
}

func (c control) Lease(ctx context.Context) (nodeapi.Lease, error) {
	return c.r.Nodes.Lease(ctx, c.node)
}

func (c control) Image(ctx context.Context, id string) (path, format string, err error) {
	v, err := c.r.Image.Image(ctx, c.r.Identity.ServiceCredentials(), id)
	if err != nil {
		return "", "", err
	}
	path, err = c.r.Image.Path(id)
	return path, v.DiskFormat, err
}

func (c control) OpenBlob(_ context.Context, digest string) (io.ReadCloser, error) {
	return c.r.Registry.OpenBlob(digest)
}

// upstream is the control plane for an agent on another machine. What it says of
// others than its own node is refused.
type upstream struct{ control }

var _ nodelink.Upstream = upstream{}

func (u upstream) Report(ctx context.Context, s nodeapi.InstanceStatus) error {
	i, err := u.r.Nodes.Instances.Get(s.ID)
	if errs.Is(err, errs.NotFound) {
		return nil // forgotten since
	} else if err != nil {
		return err
	}
	if s.Node != u.node || i.Node != u.node {
		return errs.Forbiddenf("server %s is not on node %s", s.ID, u.node)
	}
	return u.control.Report(ctx, s)
}

func (u upstream) ReportPassword(ctx context.Context, id, password string) error {
	if i, err := u.r.Nodes.Instances.Get(id); err != nil || i.Node != u.node {
		return errs.NotFoundf("server %s is not on node %s", id, u.node)
	}
	return u.control.ReportPassword(ctx, id, password)
}

func (u upstream) ImageFormat(ctx context.Context, id string) (string, error) {
	_, format, err := u.Image(ctx, id)
	return format, err
}

func (u upstream) OpenImage(ctx context.Context, id string) (io.ReadCloser, error) {
	path, _, err := u.Image(ctx, id)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// ImageFile names the file with an image's data, for control members, who have copies.
func (u upstream) ImageFile(ctx context.Context, id string) (string, error) {
	path, _, err := u.Image(ctx, id)
	return filepath.Base(path), err
}

// Members implements nodelink.Upstream.
func (u upstream) Members(context.Context) ([]string, error) { return u.r.council.addrs(), nil }

func (u upstream) Renew(_ context.Context, csr []byte) ([]byte, error) {
	return u.r.signNode(u.node, csr)
}

func fileGroup(fi os.FileInfo) []int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Gid != 0 {
		return []int{int(st.Gid)}
	}
	return nil
}
