package simulate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodelink"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/wait"
)

// What each simulated node has.
const (
	nodeVCPUs     = 64
	nodeMemoryMiB = 256 << 10
	nodeDiskGiB   = 4 << 10
)

// again is the pause before something is told once more that did not arrive.
const again = time.Second

// agent is a simulated node.
type agent struct {
	info  nodeapi.NodeInfo
	link  *nodelink.Client
	pool  *pool
	delay time.Duration // from an order to its being carried out

	mu     sync.Mutex
	wanted map[string]*nodeapi.Instance
	gens   map[string]int64 // carried out, by instance
	plugs  map[string]bool  // ports that were reported as up
}

var (
	_ nodes.Conn = (*agent)(nil)
	// errSimulated answers what needs a machine.
	errSimulated = errs.New(errs.NotImplemented, "this node is simulated: it runs no guests and keeps no volumes")
)

func nodeName(i int) string { return fmt.Sprintf("sim-%05d", i) }

// describe is what the node says of itself. Its address for tunnels is one that
// nothing here uses: the control plane only hands it on.
func describe(i int) nodeapi.NodeInfo {
	now := time.Now().UTC()
	return nodeapi.NodeInfo{ID: nodeName(i), Host: nodeName(i), Addr: "127.0.0.1", TunnelAddr: netip.AddrFrom4([4]byte{10, byte(128 + i>>16), byte(i >> 8), byte(i)}),
		VCPUs: nodeVCPUs, MemoryMiB: nodeMemoryMiB, DiskGiB: nodeDiskGiB, Accelerator: "kvm", Hypervisor: "QEMU", Version: "7.2.15",
		CPUModel: "simulated", CPUArch: "x86_64", CPUFlags: []string{"sse2", "avx2", "aes", "vmx"}, BootedAt: now, SeenAt: now}
}

// run is the node until ctx ends.
func (a *agent) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { a.link.Serve(ctx, a) })
	group.Go(func() { a.followNetworks(ctx) })
	group.Go(func() { a.followInstances(ctx, &group) })
	group.Wait()
}

// introduce tells the control plane what the node is, until it knows.
func (a *agent) introduce(ctx context.Context) error {
	for {
		err := a.link.ReportNode(ctx, a.info)
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := wait.Pause(ctx, again); err != nil {
			return err
		}
	}
}

func (a *agent) followInstances(ctx context.Context, group *sync.WaitGroup) {
	for e := range a.link.Instances(ctx) {
		switch {
		case e.Synced:
			a.pool.isBack(a.info.ID)
		case e.Instance == nil:
			a.mu.Lock()
			delete(a.wanted, e.ID)
			delete(a.gens, e.ID)
			a.mu.Unlock()
		default:
			a.pool.isTold(e.ID)
			a.mu.Lock()
			a.wanted[e.ID] = e.Instance
			a.mu.Unlock()
			group.Go(func() { a.carryOut(ctx, e.Instance) })
		}
	}
}

// carryOut does nothing for a while and says that it is done. What was done before is
// said at once, as an agent does that was connected anew.
func (a *agent) carryOut(ctx context.Context, inst *nodeapi.Instance) {
	a.mu.Lock()
	done := a.gens[inst.ID] == inst.Gen
	a.mu.Unlock()
	if !done && wait.Pause(ctx, a.delay) != nil {
		return
	}
	s := nodeapi.InstanceStatus{ID: inst.ID, Node: a.info.ID, Gen: inst.Gen, Power: inst.Power, RebootSeq: inst.Reboot.Seq, Gone: inst.Deleted, Since: time.Now().UTC()}
	if inst.Deleted {
		s.Power = nodeapi.PowerStopped
	}
	for a.isWanted(inst) {
		if err := a.link.Report(ctx, s); err == nil {
			a.mu.Lock()
			a.gens[inst.ID] = inst.Gen
			a.mu.Unlock()
			a.pool.isDone(inst)
			return
		}
		if wait.Pause(ctx, again) != nil {
			return
		}
	}
}

// isWanted tells whether this is still the newest order.
func (a *agent) isWanted(inst *nodeapi.Instance) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted[inst.ID] == inst
}

// followNetworks says of each port that is to be here that it is up.
func (a *agent) followNetworks(ctx context.Context) {
	for c := range a.link.NetChanges(ctx) {
		a.pool.states.Add(1)
		if list := a.fresh(c); len(list) > 0 && a.link.ReportPorts(ctx, list) != nil {
			return // ctx has ended: it insists until then
		}
	}
}

// fresh are the ports that have come here with a change.
func (a *agent) fresh(c nodeapi.NetChange) []nodeapi.PortStatus {
	was := a.plugs
	if c.Whole {
		a.plugs = map[string]bool{}
	}
	for _, id := range c.Gone {
		delete(a.plugs, id)
	}
	var out []nodeapi.PortStatus
	for _, p := range c.Ports {
		if !p.Local || !p.AdminUp {
			delete(a.plugs, p.ID)
			continue
		}
		if !was[p.ID] {
			out = append(out, nodeapi.PortStatus{PortID: p.ID, Up: true})
		}
		a.plugs[p.ID] = true
	}
	return out
}

// ConsoleLog implements nodes.Conn.
func (a *agent) ConsoleLog(context.Context, string, int) ([]byte, error) {
	return []byte("this server is simulated\n"), nil
}

// Console implements nodes.Conn.
func (a *agent) Console(context.Context, string, string) (net.Conn, error) { return nil, errSimulated }

// Diagnostics implements nodes.Conn.
func (a *agent) Diagnostics(context.Context, string) (*nodeapi.Diagnostics, error) {
	return nil, errSimulated
}

// Interrupt implements nodes.Conn.
func (a *agent) Interrupt(context.Context, string) error { return errSimulated }

// SetPassword implements nodes.Conn.
func (a *agent) SetPassword(context.Context, string, string, string) error { return errSimulated }

// ReadDisk implements nodes.Conn.
func (a *agent) ReadDisk(context.Context, string, string) (io.ReadCloser, error) {
	return nil, errSimulated
}

// Pools is the part of nodes.Storage that the control plane asks of every node.
func (a *agent) Pools(context.Context) ([]nodeapi.Pool, error) { return nil, nil }
