package region

import (
	"context"
	"os"
	"syscall"

	"github.com/strata-cloud/strata/internal/node"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// control is the control plane as the agent in the same process sees it.
type control struct{ r *Region }

func (c control) Instances(ctx context.Context) <-chan node.InstanceEvent {
	out := make(chan node.InstanceEvent)
	id := nodeID()
	go func() {
		defer close(out)
		for ev := range c.r.Nodes.Instances.Watch(ctx) {
			e := node.InstanceEvent{ID: ev.ID, Instance: ev.New, Synced: ev.Type == store.Synced}
			if !e.Synced && ev.New != nil && ev.New.Node != id {
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c control) Networks(ctx context.Context) <-chan nodeapi.NetState {
	return c.r.Network.Watch(ctx, nodeID())
}

func (c control) Report(ctx context.Context, s nodeapi.InstanceStatus) error {
	return c.r.Nodes.Report(store.Freeing(ctx), s)
}

func (c control) ReportPorts(ctx context.Context, ports []nodeapi.PortStatus) error {
	return c.r.Network.ReportPorts(store.Freeing(ctx), ports)
}

func (c control) ReportNode(ctx context.Context, n nodeapi.NodeInfo) error {
	return c.r.DB.Txn(ctx, func(tx *store.Tx) error { return c.r.Nodes.Infos.TxPut(tx, &n) })
}

func (c control) ReportPassword(ctx context.Context, id, password string) error {
	return c.r.Compute.TakePassword(ctx, id, password)
}

func (c control) Image(ctx context.Context, id string) (path, format string, err error) {
	v, err := c.r.Image.Image(ctx, c.r.Identity.ServiceCredentials(), id)
	if err != nil {
		return "", "", err
	}
	path, err = c.r.Image.Path(id)
	return path, v.DiskFormat, err
}

// nodeID names this machine: its host name, which is what users see as the host.
func nodeID() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

func fileGroup(fi os.FileInfo) []int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Gid != 0 {
		return []int{int(st.Gid)}
	}
	return nil
}
