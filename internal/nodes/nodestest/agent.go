// Package nodestest plays a node's agent without a machine: it watches the
// instances of its node, reports each one's wanted state as reached, and keeps
// what a real agent would keep, so that tests and simulations can compare.
package nodestest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/store"
)

// Agent is a simulated node. Set the fields before Run.
type Agent struct {
	Storage // the node's volumes
	Info    nodeapi.NodeInfo
	// Fault may refuse an instance: its text is reported as the fault.
	Fault func(nodeapi.Instance) string
	// Leases has it ask for leases, and run by them what runs under one.
	Leases bool

	mu    sync.Mutex
	away  bool
	back  chan struct{}
	runs  map[string]nodeapi.Instance // what "runs" here, by id
	boots map[string]int              // how often each was started or rebooted

	passwords map[string]string
	moving    moving
	leases    map[string]time.Time // until when, by instance
}

// Register writes the node's info and connects the agent to the registry.
func (a *Agent) Register(ctx context.Context, db *store.DB, r *nodes.Registry) error {
	if a.Info.SeenAt.IsZero() {
		a.Info.SeenAt, a.Info.BootedAt = time.Now().UTC(), time.Now().UTC()
	}
	a.mu.Lock()
	a.moving.pool = r
	a.mu.Unlock()
	r.Connect(a.Info.ID, a)
	return db.Txn(ctx, func(tx *store.Tx) error { return r.Infos.TxPut(tx, &a.Info) })
}

// Run converges until ctx ends.
func (a *Agent) Run(ctx context.Context, db *store.DB, r *nodes.Registry) error {
	changed := db.Notify(ctx, "node/instance")
	if a.Leases {
		stop := a.keepLeases(ctx, r)
		defer stop()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-a.returned():
		}
		if a.isAway() {
			continue
		}
		a.removeStrangers(r)
		for _, i := range r.Instances.By("node", a.Info.ID) {
			if st, err := r.Statuses.Get(i.ID); err == nil && st.Gen >= i.Gen {
				continue
			}
			if a.Leases && i.HA {
				a.askLease(ctx, r) // nothing starts without one
			}
			if err := r.Report(ctx, a.converge(*i)); err != nil && ctx.Err() == nil {
				return fmt.Errorf("simulated node %s: reporting %s: %w", a.Info.ID, i.ID, err)
			}
		}
	}
}

// Away cuts the agent off, or lets it catch up.
func (a *Agent) Away(away bool) {
	back := a.returned()
	a.mu.Lock()
	a.away = away
	a.mu.Unlock()
	if !away {
		select {
		case back <- struct{}{}:
		default:
		}
	}
}

func (a *Agent) isAway() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.away
}

func (a *Agent) returned() chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.back == nil {
		a.back = make(chan struct{}, 1)
	}
	return a.back
}

// converge makes the instance true and says so.
func (a *Agent) converge(i nodeapi.Instance) nodeapi.InstanceStatus {
	a.lookForTwin(i)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs == nil {
		a.runs, a.boots = map[string]nodeapi.Instance{}, map[string]int{}
	}
	st := nodeapi.InstanceStatus{ID: i.ID, Node: i.Node, Gen: i.Gen, Power: i.Power, RebootSeq: i.Reboot.Seq, Since: time.Now().UTC(), Leased: a.Leases && i.HA}
	if i.Deleted {
		delete(a.runs, i.ID)
		a.moving.forget(i.ID)
		st.Gone, st.Power = true, nodeapi.PowerStopped
		return st
	}
	if a.Fault != nil {
		if st.Fault = a.Fault(i); st.Fault != "" {
			st.Power = a.runs[i.ID].Power
			return st
		}
	}
	if a.moving.left[i.ID] {
		st.Fault, st.Power = "it has moved to another node", nodeapi.PowerStopped
		return st
	}
	a.takeOver(i)
	old, there := a.runs[i.ID]
	if !there && i.Power == nodeapi.PowerRunning || there && old.Reboot.Seq < i.Reboot.Seq {
		a.boots[i.ID]++
	}
	a.runs[i.ID] = i
	return st
}

// Runs lists the ids of the instances that are on the node.
func (a *Agent) Runs() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for id := range a.runs {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// Boots tells how often the instance was booted.
func (a *Agent) Boots(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.boots[id]
}

// Observe reports a power state that nobody asked for, as when a guest shuts itself down.
func (a *Agent) Observe(ctx context.Context, r *nodes.Registry, id string, p nodeapi.Power) error {
	st, err := r.Statuses.Get(id)
	if err != nil {
		return err
	}
	now := *st
	now.Power, now.Since = p, time.Now().UTC()
	return r.Report(ctx, now)
}

// ConsoleLog gives the last lines of what a guest would have printed.
func (a *Agent) ConsoleLog(_ context.Context, id string, lines int) ([]byte, error) {
	a.mu.Lock()
	i, ok := a.runs[id]
	a.mu.Unlock()
	if !ok {
		return nil, errs.NotFoundf("instance %s is not on node %s", id, a.Info.ID)
	}
	var all []string
	for n := range 20 {
		all = append(all, fmt.Sprintf("line %d of %s\n", n+1, i.Name))
	}
	if lines > 0 && lines < len(all) {
		all = all[len(all)-lines:]
	}
	return []byte(strings.Join(all, "")), nil
}

// running gives the instance when it runs here.
func (a *Agent) running(id string) (nodeapi.Instance, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, ok := a.runs[id]
	switch {
	case !ok:
		return i, errs.NotFoundf("instance %s is not on node %s", id, a.Info.ID)
	case i.Power != nodeapi.PowerRunning && i.Power != nodeapi.PowerPaused:
		return i, errs.Conflictf("instance %s does not run", id)
	}
	return i, nil
}

// Console greets, and then sends back what it is told.
func (a *Agent) Console(_ context.Context, id, kind string) (net.Conn, error) {
	i, err := a.running(id)
	if err != nil {
		return nil, err
	}
	greeting := map[string]string{"vnc": "RFB 003.008\n", "serial": i.Name + " login: "}[kind]
	if greeting == "" {
		return nil, errs.Invalidf("a machine has no console of the kind %q", kind)
	}
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		if _, err := io.WriteString(there, greeting); err == nil {
			_, _ = io.Copy(there, there) // ends with the client
		}
	}()
	return here, nil
}

// Diagnostics has the instance's devices, with plausible counters.
func (a *Agent) Diagnostics(_ context.Context, id string) (*nodeapi.Diagnostics, error) {
	i, err := a.running(id)
	if err != nil {
		return nil, err
	}
	out := &nodeapi.Diagnostics{State: i.Power, Uptime: 60, MemoryMiB: i.MemoryMiB, UsedMiB: i.MemoryMiB / 2, Hypervisor: "QEMU"}
	for n := range i.VCPUs {
		out.CPUs = append(out.CPUs, nodeapi.CPUDiagnostics{ID: n, TimeNS: 1e9})
	}
	for range i.Disks {
		out.Disks = append(out.Disks, nodeapi.DiskDiagnostics{ReadBytes: 4096, ReadRequests: 1})
	}
	for _, n := range i.NICs {
		out.NICs = append(out.NICs, nodeapi.NICDiagnostics{MAC: n.MAC, RxBytes: 60, RxPackets: 1})
	}
	return out, nil
}

// Interrupt needs a running instance.
func (a *Agent) Interrupt(_ context.Context, id string) error {
	_, err := a.running(id)
	return err
}

// SetPassword keeps it for Password. The guest knows root alone.
func (a *Agent) SetPassword(_ context.Context, id, user, password string) error {
	i, err := a.running(id)
	switch {
	case err != nil:
		return err
	case !i.Machine.GuestAgent || a.isAway():
		return errs.New(errs.Unavailable, "the guest agent does not answer")
	case user != "root":
		return errs.Invalidf("there is no user %s in the guest", user)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.passwords == nil {
		a.passwords = map[string]string{}
	}
	a.passwords[id] = password
	return nil
}

// Password is what was set for root in the guest.
func (a *Agent) Password(id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.passwords[id]
}

// ReadDisk gives an empty image of an instance's disk.
func (a *Agent) ReadDisk(_ context.Context, id, disk string) (io.ReadCloser, error) {
	a.mu.Lock()
	i, ok := a.runs[id]
	a.mu.Unlock()
	known := slices.Contains(i.Kept, disk) || slices.ContainsFunc(i.Disks, func(d nodeapi.Disk) bool { return d.Name == disk && d.Role != "volume" })
	if !ok || !known {
		return nil, errs.NotFoundf("instance %s has no disk %q on node %s", id, disk, a.Info.ID)
	}
	return io.NopCloser(bytes.NewReader(emptyImage())), nil
}

// emptyImage is a valid qcow2 image (version 2) of 1 MiB with nothing in it.
func emptyImage() []byte {
	const cluster = 1 << 16
	b := make([]byte, 4*cluster) // header, level-1 table, refcount table, refcount block
	copy(b, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(b[4:], 2)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], 1<<20)
	be.PutUint32(b[36:], 1)
	be.PutUint64(b[40:], cluster)
	be.PutUint64(b[48:], 2*cluster)
	be.PutUint32(b[56:], 1)
	be.PutUint64(b[2*cluster:], 3*cluster)
	for i := range 4 {
		be.PutUint16(b[3*cluster+2*i:], 1)
	}
	return b
}
