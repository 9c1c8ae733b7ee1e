package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// hands is the machines, data plane and control plane of a test, kept in memory. The
// machines survive an agent, as QEMU does.
type hands struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	power    map[string]nodeapi.Power
	lost     map[string]bool
	granted  func() (nodeapi.Lease, error) // nil: none is granted
	leases   *hypervisor.Leases
	specs    map[string]hypervisor.Spec
	stubborn bool   // guests let no device go
	broken   bool   // templates cannot be cloned
	image    string // the file of every image; "": there is none
	says     string // on every console
	kept     string // the directory of templates; "": there are none
	calls    []string
	plugged  map[string]bool
	statuses map[string]nodeapi.InstanceStatus
	failing  bool
	events   chan hypervisor.Event
	wanted   chan InstanceEvent
}

func newHands(t *testing.T) *hands {
	return &hands{t: t, dir: t.TempDir(), power: map[string]nodeapi.Power{}, lost: map[string]bool{}, plugged: map[string]bool{}, specs: map[string]hypervisor.Spec{},
		statuses: map[string]nodeapi.InstanceStatus{}, events: make(chan hypervisor.Event, 10), wanted: make(chan InstanceEvent, 100)}
}

func (h *hands) set(id string, p nodeapi.Power, call string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, call)
	if h.failing {
		return errors.New("the hands are tied")
	}
	h.power[id], h.lost[id] = p, false
	return nil
}

func (h *hands) count(call string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (h *hands) Dir(id string) (string, error) {
	dir := filepath.Join(h.dir, id)
	return dir, os.MkdirAll(dir, 0o700)
}
func (h *hands) Start(_ context.Context, s hypervisor.Spec, taps []*os.File) error {
	if len(taps) != len(s.NICs) {
		return fmt.Errorf("%d taps for %d NICs", len(taps), len(s.NICs))
	}
	h.edit(s.ID, func(has *hypervisor.Spec) { *has = s })
	return h.set(s.ID, nodeapi.PowerRunning, "start")
}
func (h *hands) Stop(_ context.Context, id string, grace time.Duration) error {
	if grace == 0 {
		return h.set(id, nodeapi.PowerStopped, "stop at once")
	}
	return h.set(id, nodeapi.PowerStopped, "stop")
}
func (h *hands) Cut(_ context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "cut")
	if h.power[id] == nodeapi.PowerRunning || h.power[id] == nodeapi.PowerPaused {
		h.power[id], h.lost[id] = nodeapi.PowerStopped, true
	}
	return nil
}
func (h *hands) Lost(id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost[id] && h.power[id] == nodeapi.PowerStopped, nil
}
func (h *hands) Reboot(_ context.Context, id string, _ time.Duration) error {
	return h.set(id, nodeapi.PowerRunning, "reboot")
}
func (h *hands) Pause(_ context.Context, id string) error {
	return h.set(id, nodeapi.PowerPaused, "pause")
}
func (h *hands) Retry(context.Context, string) (bool, error) { return false, nil }

func (h *hands) Resume(_ context.Context, id string) error {
	return h.set(id, nodeapi.PowerRunning, "resume")
}
func (h *hands) Suspend(_ context.Context, id string) error {
	return h.set(id, nodeapi.PowerSuspended, "suspend")
}
func (h *hands) Restore(_ context.Context, id string, _ []*os.File, _ []hypervisor.Disk) error {
	return h.set(id, nodeapi.PowerRunning, "restore")
}
func (h *hands) Shape(s hypervisor.Spec) (string, error) {
	return fmt.Sprint(s.VCPUs, s.MemoryMiB, s.Kernel, s.CommandLine, s.Disks), nil
}
func (h *hands) Freeze(_ context.Context, id string) error {
	for _, name := range []string{hypervisor.FrozenMemory, hypervisor.FrozenDevices} {
		if err := os.WriteFile(filepath.Join(h.dir, id, name), []byte("frozen"), 0o600); err != nil {
			return err
		}
	}
	return h.set(id, nodeapi.PowerStopped, "freeze")
}
func (h *hands) Clone(_ context.Context, s hypervisor.Spec, from hypervisor.Frozen) error {
	raw, err := io.ReadAll(io.NewSectionReader(from.Memory, 0, 100))
	if err != nil || string(raw) != "frozen" {
		return fmt.Errorf("the template's memory is %q, %v", raw, err)
	}
	h.mu.Lock()
	broken := h.broken
	h.mu.Unlock()
	if broken {
		return errors.New("the template is broken")
	}
	h.edit(s.ID, func(has *hypervisor.Spec) { *has = s })
	return h.set(s.ID, nodeapi.PowerRunning, "clone")
}
func (h *hands) State(id string) (nodeapi.Power, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p, ok := h.power[id]; ok {
		return p, nil
	}
	return "", errs.NotFoundf("no machine %s", id)
}
func (h *hands) Spec(id string) (hypervisor.Spec, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.specs[id]; ok {
		return s, nil
	}
	return hypervisor.Spec{}, errs.NotFoundf("none")
}
func (h *hands) List() ([]string, error) {
	entries, err := os.ReadDir(h.dir)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}
func (h *hands) Remove(_ context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "remove")
	delete(h.power, id)
	return os.RemoveAll(filepath.Join(h.dir, id))
}
func (h *hands) Receive(context.Context, hypervisor.Arrival) (*nodeapi.MoveTarget, error) {
	return nil, errs.New(errs.NotImplemented, "hands move nothing")
}
func (h *hands) Send(context.Context, string, hypervisor.Departure) error { return nil }
func (h *hands) Move(string) (hypervisor.Move, error)                     { return hypervisor.Move{}, nil }
func (h *hands) ForceMove(context.Context, string) error                  { return nil }
func (h *hands) EndMove(context.Context, string) error                    { return nil }
func (h *hands) Arrive(context.Context, string) error                     { return nil }
func (h *hands) ConsoleLog(string, int) ([]byte, error)                   { return []byte(h.says), nil }
func (h *hands) SwapDisk(context.Context, string, string, func(context.Context) (hypervisor.Disk, error)) error {
	return nil
}
func (h *hands) Swapping(string) string                                           { return "" }
func (h *hands) ResizeDisk(context.Context, string, string, int64) error          { return nil }
func (h *hands) SnapshotDisk(context.Context, string, string, string) error       { return nil }
func (h *hands) SnapshotDisks(context.Context, string, map[string]string) error   { return nil }
func (h *hands) DeleteDiskSnapshot(context.Context, string, string, string) error { return nil }
func (h *hands) Console(context.Context, string, string) (net.Conn, error)        { return nil, nil }
func (h *hands) Interrupt(context.Context, string) error                          { return nil }
func (h *hands) SetPassword(context.Context, string, string, string) error        { return nil }
func (h *hands) Diagnostics(_ context.Context, id string) (*nodeapi.Diagnostics, error) {
	s, err := h.Spec(id)
	return &nodeapi.Diagnostics{Disks: make([]nodeapi.DiskDiagnostics, len(s.Disks)), NICs: make([]nodeapi.NICDiagnostics, len(s.NICs))}, err
}
func (h *hands) Counters(context.Context, string) (nodeapi.NICDiagnostics, error) {
	return nodeapi.NICDiagnostics{RxBytes: 7}, nil
}
func (h *hands) Events() <-chan hypervisor.Event               { return h.events }
func (h *hands) Close()                                        {}
func (h *hands) Apply(context.Context, nodeapi.NetState) error { return nil }
func (h *hands) Tap(_ context.Context, port string) (*os.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plugged[port] = true
	return os.Open(os.DevNull)
}
func (h *hands) TapAhead(ctx context.Context, port string) (*os.File, error) {
	return h.Tap(ctx, port)
}
func (h *hands) Unplug(_ context.Context, port string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.plugged, port)
	return nil
}

func (h *hands) Instances(ctx context.Context) <-chan InstanceEvent { return h.wanted }
func (h *hands) Networks(ctx context.Context) <-chan nodeapi.NetState {
	return make(chan nodeapi.NetState)
}
func (h *hands) Report(_ context.Context, s nodeapi.InstanceStatus) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses[s.ID] = s
	return nil
}
func (h *hands) ReportPorts(context.Context, []nodeapi.PortStatus) error { return nil }
func (h *hands) ReportNode(context.Context, nodeapi.NodeInfo) error      { return nil }
func (h *hands) ReportPassword(_ context.Context, id, password string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, "password of "+id+": "+password)
	return nil
}
func (h *hands) Lease(context.Context) (nodeapi.Lease, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.granted == nil {
		return nodeapi.Lease{}, errors.New("nobody grants leases")
	}
	return h.granted()
}
func (h *hands) Image(context.Context, string) (string, string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.image == "" {
		return "", "", errs.NotFoundf("no image")
	}
	return h.image, "raw", nil
}

// run starts an agent and gives the function that stops it.
func (h *hands) run() (stop func()) {
	h.t.Helper()
	a, err := New(Options{ID: "n", Control: h, Machines: h, Plane: h, Volumes: h, Log: slog.New(slog.DiscardHandler), CacheDir: h.t.TempDir(), TemplateDir: h.kept, Leases: h.leases})
	if err != nil {
		h.t.Fatal(err)
	}
	a.leasing.every, a.leasing.again = 20*time.Millisecond, 20*time.Millisecond
	ctx, cancel := context.WithCancel(h.t.Context())
	var group sync.WaitGroup
	for _, part := range []func(context.Context){a.followMachines, a.makeTemplates, a.askLeases, a.cutLeases, a.loop.Run} {
		group.Go(func() { part(ctx) })
	}
	inner, stopInner := context.WithCancel(ctx)
	group.Go(func() {
		for {
			select {
			case <-inner.Done():
				return
			case e := <-h.wanted:
				one := make(chan InstanceEvent, 1)
				one <- e
				close(one)
				a.Control = single{h, one}
				a.followInstances(inner)
			}
		}
	})
	return func() { stopInner(); cancel(); group.Wait() }
}

// single is a control plane that has one event to tell.
type single struct {
	*hands
	one <-chan InstanceEvent
}

func (s single) Instances(context.Context) <-chan InstanceEvent { return s.one }

func (h *hands) want(i nodeapi.Instance) {
	h.wanted <- InstanceEvent{ID: i.ID, Instance: &i}
}

// await waits until the agent has reported the generation and gives its report.
func (h *hands) await(id string, ok func(nodeapi.InstanceStatus) bool) nodeapi.InstanceStatus {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	var last nodeapi.InstanceStatus
	err := wait.Until(ctx, "a report", time.Millisecond, func(context.Context) (bool, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		last = h.statuses[id]
		return ok(last), nil
	})
	if err != nil {
		h.t.Fatalf("%v; last report: %+v", err, last)
	}
	return last
}

func gen(n int64) func(nodeapi.InstanceStatus) bool {
	return func(s nodeapi.InstanceStatus) bool { return s.Gen == n }
}

const id = "0b4f8a52-5b1f-4f2e-9d3a-111111111111"

func wanted(n int64, p nodeapi.Power, reboot nodeapi.Reboot) nodeapi.Instance {
	return nodeapi.Instance{ID: id, Gen: n, Power: p, Reboot: reboot, VCPUs: 1, MemoryMiB: 64, NICs: []nodeapi.NIC{{PortID: "p"}}}
}

func TestPowerStates(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	for i, step := range []struct {
		power  nodeapi.Power
		reboot nodeapi.Reboot
		call   string
		after  nodeapi.Power
	}{
		{nodeapi.PowerRunning, nodeapi.Reboot{}, "start", nodeapi.PowerRunning},
		{nodeapi.PowerPaused, nodeapi.Reboot{}, "pause", nodeapi.PowerPaused},
		{nodeapi.PowerRunning, nodeapi.Reboot{}, "resume", nodeapi.PowerRunning},
		{nodeapi.PowerSuspended, nodeapi.Reboot{}, "suspend", nodeapi.PowerSuspended},
		{nodeapi.PowerRunning, nodeapi.Reboot{}, "restore", nodeapi.PowerRunning},
		{nodeapi.PowerRunning, nodeapi.Reboot{Seq: 1}, "reboot", nodeapi.PowerRunning},
		{nodeapi.PowerRunning, nodeapi.Reboot{Seq: 2, Hard: true}, "start", nodeapi.PowerRunning},
		{nodeapi.PowerStopped, nodeapi.Reboot{Seq: 2}, "stop", nodeapi.PowerStopped},
		{nodeapi.PowerRunning, nodeapi.Reboot{Seq: 3, Hard: true}, "start", nodeapi.PowerRunning},
	} {
		n := int64(i + 1)
		before := h.count(step.call)
		h.want(wanted(n, step.power, step.reboot))
		if s := h.await(id, gen(n)); s.Power != step.after || s.Fault != "" || h.count(step.call) != before+1 {
			t.Errorf("step %d (%s): %+v after %d calls", n, step.call, s, h.count(step.call)-before)
		}
	}
	abrupt := wanted(100, nodeapi.PowerStopped, nodeapi.Reboot{Seq: 3})
	abrupt.Abrupt = true
	before := h.count("stop at once")
	h.want(abrupt)
	if s := h.await(id, gen(100)); s.Power != nodeapi.PowerStopped || h.count("stop at once") != before+1 {
		t.Errorf("stopping abruptly: %+v", s)
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	h.await(id, gen(1))
	gone := wanted(2, nodeapi.PowerRunning, nodeapi.Reboot{})
	gone.Deleted = true
	h.want(gone)
	if s := h.await(id, gen(2)); !s.Gone {
		t.Errorf("reported %+v", s)
	}
	if list, err := h.List(); err != nil || len(list) > 0 || len(h.plugged) > 0 {
		t.Errorf("left: %v, plugged %v (%v)", list, h.plugged, err)
	}
}

func TestFaultIsReportedAndNextGenerationTried(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	h.failing = true
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	if s := h.await(id, gen(1)); s.Fault != "the hands are tied" {
		t.Errorf("reported %+v", s)
	}
	h.mu.Lock()
	h.failing = false
	h.mu.Unlock()
	h.want(wanted(2, nodeapi.PowerRunning, nodeapi.Reboot{}))
	if s := h.await(id, gen(2)); s.Fault != "" || s.Power != nodeapi.PowerRunning {
		t.Errorf("reported %+v", s)
	}
}

// A guest that ends by itself is reported stopped, not started again, also by a
// new agent; after a restart of the machine it is started.
func TestGuestThatEndsByItself(t *testing.T) {
	h := newHands(t)
	stop := h.run()
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	h.await(id, gen(1))
	h.mu.Lock()
	h.power[id] = nodeapi.PowerStopped
	h.mu.Unlock()
	h.events <- hypervisor.Event{ID: id, Power: nodeapi.PowerStopped}
	h.await(id, func(s nodeapi.InstanceStatus) bool { return s.Power == nodeapi.PowerStopped })
	stop()
	stop = h.run()
	h.statuses = map[string]nodeapi.InstanceStatus{}
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	h.await(id, gen(1))
	stop()
	if n := h.count("start"); n != 1 {
		t.Errorf("started %d times", n)
	}
	// The machine was restarted: the boot id differs from the remembered one.
	dir, err := h.Dir(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, memoryFile), []byte(`{"gen":1,"boot_id":"another"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	stop = h.run()
	defer stop()
	h.want(wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{}))
	h.await(id, func(s nodeapi.InstanceStatus) bool { return s.Power == nodeapi.PowerRunning })
}

// What nobody wants is removed, but only once everything wanted has been heard of.
func TestOrphans(t *testing.T) {
	h := newHands(t)
	if _, err := h.Dir(id); err != nil {
		t.Fatal(err)
	}
	h.power[id] = nodeapi.PowerRunning
	defer h.run()()
	other := "0b4f8a52-5b1f-4f2e-9d3a-222222222222"
	w := wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{})
	w.ID = other
	h.want(w)
	h.await(other, gen(1))
	if h.count("remove") != 0 {
		t.Fatal("removed before all was heard")
	}
	h.wanted <- InstanceEvent{Synced: true}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := wait.Until(ctx, "the orphan to go", time.Millisecond, func(context.Context) (bool, error) {
		list, err := h.List()
		return !slices.Contains(list, id), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := h.List(); !slices.Contains(list, other) {
		t.Error("the wanted one was removed too")
	}
}
