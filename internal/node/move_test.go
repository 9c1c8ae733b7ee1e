package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/hypervisor/hypervisortest"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/wait"
)

var _ nodes.Mover = (*Agent)(nil)

// moverHost is a host of a test with real machines and real taps.
type moverHost struct {
	*hands
	*Agent
	files map[string]string
	taps  map[string]*os.File
}

func (h *moverHost) Image(_ context.Context, id string) (string, string, error) {
	return h.files[id], "qcow2", nil
}

func (h *moverHost) Tap(_ context.Context, port string) (*os.File, error) {
	fd, err := unix.FcntlInt(h.taps[port].Fd(), unix.F_DUPFD_CLOEXEC, 3)
	return os.NewFile(uintptr(fd), port), err
}

func (h *moverHost) TapAhead(ctx context.Context, port string) (*os.File, error) {
	return h.Tap(ctx, port)
}

func newMoverHost(t *testing.T, name string, taps map[string]*os.File) *moverHost {
	img := guesttest.Tiny(t)
	h := &moverHost{hands: newHands(t), taps: taps, files: map[string]string{"image": img.Disk, "kernel": img.Kernel, "initrd": img.Initrd}}
	d, err := hypervisor.New(context.Background(), hypervisor.Config{Dir: h.dir, UID: 64399, GID: 64399, Accel: hypervisor.TCG, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
		d.Close()
	})
	h.Agent, err = New(Options{ID: name, Control: h, Machines: d, Plane: h, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir(), Addr: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	h.Agent.synced = true
	return h
}

// wants has the agent see what is wanted, and act.
func (h *moverHost) wants(ctx context.Context, inst *nodeapi.Instance) nodeapi.InstanceStatus {
	h.t.Helper()
	h.Agent.mu.Lock()
	delete(h.Agent.wanted, id)
	if inst != nil {
		copied := *inst
		h.Agent.wanted[id] = &copied
	}
	h.Agent.mu.Unlock()
	h.hands.mu.Lock()
	delete(h.statuses, id)
	h.hands.mu.Unlock()
	if err := h.reconcile(ctx, id); err != nil {
		h.t.Fatal(err)
	}
	h.hands.mu.Lock()
	defer h.hands.mu.Unlock()
	return h.statuses[id]
}

// makeTaps makes taps in a network namespace of their own.
func makeTaps(t *testing.T, names ...string) (map[string]*os.File, *netlink.Handle) {
	taps := map[string]*os.File{}
	var handle *netlink.Handle
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		ns, err := netns.New()
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if handle, err = netlink.NewHandleAt(ns); err != nil {
			done <- err
			return
		}
		for _, n := range names {
			tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: n}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR, Queues: 1}
			if err = netlink.LinkAdd(tap); err == nil {
				err = netlink.LinkSetUp(tap)
			}
			if err != nil {
				break
			}
			taps[n] = tap.Fds[0]
		}
		done <- err
	}()
	if err := <-done; err != nil {
		needs.Missing(t, "no taps here: %v", err)
	}
	t.Cleanup(func() {
		handle.Close()
		for _, f := range taps {
			f.Close()
		}
	})
	return taps, handle
}

func movedInstance() nodeapi.Instance {
	return nodeapi.Instance{ID: id, Node: "a", Gen: 1, Name: "test", Power: nodeapi.PowerRunning, VCPUs: 1, MemoryMiB: 128,
		Machine: nodeapi.Machine{KernelID: "kernel", RamdiskID: "initrd", CommandLine: guest.KernelArgs},
		Disks:   []nodeapi.Disk{{Name: "root", Role: "root", SizeGiB: 1, ImageID: "image", Boot: 1}, {Name: "more", Role: "ephemeral", SizeMiB: 64}},
		NICs:    []nodeapi.NIC{{PortID: "p", MAC: "fa:16:3e:00:00:01", MTU: 1400}}}
}

// TestMove moves a server from one agent to another and back.
func TestMove(t *testing.T) {
	needs.Root(t, "dropping privileges")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	taps, links := makeTaps(t, "p-a", "q-a", "p-b", "q-b")
	a := newMoverHost(t, "a", map[string]*os.File{"p": taps["p-a"], "q": taps["q-a"]})
	b := newMoverHost(t, "b", map[string]*os.File{"p": taps["p-b"], "q": taps["q-b"]})
	inst := movedInstance()
	if s := a.wants(ctx, &inst); s.Power != nodeapi.PowerRunning {
		t.Fatalf("at the begin %+v", s)
	}
	hypervisortest.AwaitConsole(ctx, t, a.Machines, id, "login:")
	// What is plugged in later is elsewhere than it would be after a start.
	inst.Gen, inst.NICs = 2, append(inst.NICs, nodeapi.NIC{PortID: "q", MAC: "fa:16:3e:00:00:02"})
	if s := a.wants(ctx, &inst); s.Fault != "" {
		t.Fatalf("%+v", s)
	}
	moveServer(ctx, t, a, b, &inst, true)
	err := wait.Until(ctx, "the new place to be announced", 20*time.Millisecond, func(context.Context) (bool, error) {
		l, err := links.LinkByName("p-b")
		return err == nil && l.Attrs().Statistics.RxPackets > 0, err
	})
	if err != nil {
		t.Error(err)
	}
	answers(ctx, t, b)

	inst.Gen, inst.Power = 4, nodeapi.PowerStopped
	if s := b.wants(ctx, &inst); s.Power != nodeapi.PowerStopped || s.Fault != "" {
		t.Fatalf("%+v", s)
	}
	moveServer(ctx, t, b, a, &inst, false)
	inst.Gen, inst.Power = 6, nodeapi.PowerRunning
	if s := a.wants(ctx, &inst); s.Power != nodeapi.PowerRunning || s.Fault != "" {
		t.Fatalf("%+v", s)
	}
	hypervisortest.AwaitConsole(ctx, t, a.Machines, id, "login:")
}

// answers talks to the guest.
func answers(ctx context.Context, t *testing.T, h *moverHost) {
	t.Helper()
	c, err := h.Machines.Console(ctx, id, hypervisor.ConsoleSerial)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	hypervisortest.AwaitConsole(ctx, t, h.Machines, id, "login:")
}

// moveServer does what the control plane does.
func moveServer(ctx context.Context, t *testing.T, from, to *moverHost, inst *nodeapi.Instance, live bool) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	target, err := to.ReceiveMove(ctx, *inst, live)
	must(err)
	to.wants(ctx, nil) // nobody wants it here yet, and yet it stays
	again, err := to.ReceiveMove(ctx, *inst, live)
	must(err)
	if fmt.Sprint(target) != fmt.Sprint(again) {
		t.Errorf("asked again: %v instead of %v", again, target)
	}
	must(from.SendMove(ctx, id, *target, live))
	var p nodeapi.MoveProgress
	must(wait.Until(ctx, "the move", 10*time.Millisecond, func(context.Context) (bool, error) {
		p, err = from.MoveProgress(ctx, id)
		if p.Phase == nodeapi.MoveFailed {
			err = fmt.Errorf("%s", p.Fault)
		}
		return p.Phase == nodeapi.MoveDone, err
	}))
	t.Logf("live %v: %+v", live, p)
	if s := from.wants(ctx, inst); s.ID != "" {
		t.Errorf("the node that has sent the server tells %+v", s)
	}
	for _, h := range []*Agent{from.Agent, to.Agent} {
		if err := h.EndMove(ctx, id); !errs.Is(err, errs.Conflict) {
			t.Errorf("undoing what is done: %v", err)
		}
	}
	if !live {
		sameDisks(t, from, to)
	}
	inst.Gen++
	inst.Node = to.ID
	if s := to.wants(ctx, inst); s.Power != inst.Power || s.Fault != "" || s.Gen != inst.Gen || s.Node != to.ID {
		t.Fatalf("after the move %+v", s)
	}
	from.wants(ctx, nil)
	if left, err := from.Machines.List(); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := from.Agent.EndMove(ctx, id); err != nil {
		t.Errorf("ending what is gone: %v", err)
	}
}

func sameDisks(t *testing.T, a, b *moverHost) {
	t.Helper()
	for _, name := range []string{"root", "more"} {
		if out, err := exec.Command("qemu-img", "compare", filepath.Join(a.dir, id, name), filepath.Join(b.dir, id, name)).CombinedOutput(); err != nil {
			t.Errorf("disk %s: %v: %s", name, err, out)
		}
	}
}

// TestMoveRefused asks for moves of servers that cannot be moved.
func TestMoveRefused(t *testing.T) {
	h := newHands(t)
	a, err := New(Options{ID: "n", Addr: "127.0.0.1", Control: h, Machines: h, Plane: h, Volumes: h, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*nodeapi.Instance){
		"power": func(i *nodeapi.Instance) { i.Power = nodeapi.PowerStopped }, "resize": func(i *nodeapi.Instance) { i.Kept = []string{"old"} },
		"copy": func(i *nodeapi.Instance) { i.Disks[0].CopyFrom = "old" }, "deleted": func(i *nodeapi.Instance) { i.Deleted = true },
	} {
		inst := movedInstance()
		change(&inst)
		if _, err := a.ReceiveMove(t.Context(), inst, true); !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, err := h.List(); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	inst := movedInstance()
	a.wanted[id] = &inst
	if _, err := a.ReceiveMove(t.Context(), inst, true); !errs.Is(err, errs.Conflict) {
		t.Errorf("a server that is here: %v", err)
	}
	if err := a.SendMove(t.Context(), "another", nodeapi.MoveTarget{}, true); !errs.Is(err, errs.NotFound) {
		t.Errorf("a server that is not here: %v", err)
	}
}

// slow is a driver whose removal of a machine takes until the test lets it go on.
type slow struct {
	*hands
	begun, goOn chan struct{}
}

func (s slow) Remove(ctx context.Context, id string) error {
	close(s.begun)
	<-s.goOn
	return s.hands.Remove(ctx, id)
}

// TestReturn has a server come while what it left here is being removed: there is room
// for it afterwards only, or the removal would take that with it.
func TestReturn(t *testing.T) {
	s := slow{newHands(t), make(chan struct{}), make(chan struct{})}
	a, err := New(Options{ID: "n", Addr: "127.0.0.1", Control: s, Machines: s, Plane: s, Volumes: s, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a.synced = true
	if err := s.set(id, nodeapi.PowerStopped, "left"); err != nil {
		t.Fatal(err)
	}
	removed, received := make(chan error, 1), make(chan error, 1)
	go func() { removed <- a.reconcile(t.Context(), id) }()
	<-s.begun
	go func() {
		_, err := a.ReceiveMove(t.Context(), movedInstance(), true)
		received <- err
	}()
	select {
	case err := <-received:
		t.Errorf("it was let in during the removal: %v", err)
		received <- err
	case <-time.After(100 * time.Millisecond):
	}
	close(s.goOn)
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if err := <-received; err == nil { // the driver of this test receives nothing
		t.Error("it was received")
	}
}

// TestComesAgain has a server come back before the node has heard that it was elsewhere:
// what it left is removed, and room is made.
func TestComesAgain(t *testing.T) {
	s := newHands(t)
	a, err := New(Options{ID: "n", Addr: "127.0.0.1", Control: s, Machines: s, Plane: s, Volumes: s, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	inst := movedInstance()
	a.synced, a.wanted = true, map[string]*nodeapi.Instance{id: &inst}
	if err := s.set(id, nodeapi.PowerStopped, "left"); err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		_, err := a.ReceiveMove(t.Context(), movedInstance(), true)
		received <- err
	}()
	select {
	case err := <-received:
		t.Fatalf("it was let in where it is wanted: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	a.mu.Lock()
	delete(a.wanted, id)
	a.mu.Unlock()
	if err := <-received; err == nil || strings.Contains(err.Error(), "already") { // this test's node has no image to make room from
		t.Errorf("it was received: %v", err)
	}
	if _, err := s.State(id); !gone(err) {
		t.Errorf("what it left is there: %v", err)
	}
}
