package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Event says that a machine's state changed. Events are hints: when more come
// than are taken they are dropped, so that a reader lists from time to time.
type Event struct {
	ID     string
	Power  nodeapi.Power
	Reason string // for the operator; "" when it was asked for
}

// Driver runs machines. Every method may be repeated with the same arguments.
type Driver interface {
	// Dir is the directory of the machine, made when it is not there.
	Dir(id string) (string, error)
	// Start launches the machine unless it runs; taps are its NICs' open tap
	// descriptors in order, which stay the caller's to close.
	Start(ctx context.Context, s Spec, taps []*os.File) error
	// Stop asks the guest to shut down, and after grace ends it.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Cut ends the machine as a loss of power does, whatever else is going on with it.
	// Lost tells whether it ended so, or in a crash: neither its guest nor a Stop ended it.
	Cut(ctx context.Context, id string) error
	Lost(id string) (bool, error)
	// Reboot restarts the guest: it is asked to shut down, and after grace the reset
	// button is pressed.
	Reboot(ctx context.Context, id string, grace time.Duration) error
	// Pause and Resume stop and continue the processors.
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Retry continues a guest that stands still since its disk had no room for what it
	// wrote, and tells whether it did; others it leaves alone. The guest writes again,
	// and stands still again when there still is none.
	Retry(ctx context.Context, id string) (bool, error)
	// Suspend saves memory to disk and ends the process; Restore undoes it.
	Suspend(ctx context.Context, id string) error
	// disks give anew the keys of encrypted disks, which are kept nowhere.
	Restore(ctx context.Context, id string, taps []*os.File, disks []Disk) error
	// PlugDisk and PlugNIC plug a device into a running machine, by its id, and
	// UnplugDisk and UnplugNIC take it out: they wait, until ctx ends, for the
	// guest to let it go. The tap stays the caller's to close.
	PlugDisk(ctx context.Context, id string, d Disk) error
	UnplugDisk(ctx context.Context, id, diskID string) error
	PlugNIC(ctx context.Context, id string, n NIC, tap *os.File) error
	UnplugNIC(ctx context.Context, id, nicID string) error
	// SwapDisk has a running machine reach a disk's content in another way: its guest
	// stands still from when the disk is closed, before open is called, until it is
	// open as that says. Without success it is opened as before; if not even that
	// works, or in a crash, the guest stands still, Swapping names the disk, and
	// SwapDisk is to be repeated. Without open it is opened as before.
	SwapDisk(ctx context.Context, id, diskID string, open func(context.Context) (Disk, error)) error
	Swapping(id string) string
	// ResizeDisk makes a disk of a running machine at least bytes large; the guest sees it.
	ResizeDisk(ctx context.Context, id, diskID string, bytes int64) error
	// SnapshotDisk keeps the content that a running machine's qcow2 disk has at one
	// moment as an internal snapshot; DeleteDiskSnapshot drops it.
	SnapshotDisk(ctx context.Context, id, diskID, name string) error
	// SnapshotDisks is SnapshotDisk for several disks at one moment, with a name for
	// each disk's id. Those that have their snapshot already are left out.
	SnapshotDisks(ctx context.Context, id string, names map[string]string) error
	DeleteDiskSnapshot(ctx context.Context, id, diskID, name string) error
	// LimitDisk bounds the traffic of a running machine's disk; nil: no bound.
	LimitDisk(ctx context.Context, id, diskID string, limits *nodeapi.IOLimits) error
	// Shape names what of a machine is in a template's memory: machines of one
	// shape, and disks with the same content, can start from the same template.
	Shape(s Spec) (string, error)
	// Freeze ends a running machine that was started as a template and leaves its
	// memory and devices (FrozenMemory, FrozenDevices) in its directory, beside disks of that moment.
	Freeze(ctx context.Context, id string) error
	// Clone starts a machine from where a template of its shape was frozen, on
	// disks as the template's were. NICs are plugged in afterwards.
	Clone(ctx context.Context, s Spec, from Frozen) error
	// Receive makes room for a machine that comes from another host, whose Send gets
	// the target. Send begins to send it: Conflict when its power state does not fit.
	// Move tells how far that is, ForceMove stops a guest that changes its memory
	// faster than it can be sent. Once the sender says done, the machine is the
	// receiver's, where it goes on by itself; Arrive makes it one like any other there.
	// EndMove undoes a move, the receiver's room included; Conflict: it is done.
	Receive(ctx context.Context, a Arrival) (*nodeapi.MoveTarget, error)
	Send(ctx context.Context, id string, to Departure) error
	Move(id string) (Move, error)
	ForceMove(ctx context.Context, id string) error
	EndMove(ctx context.Context, id string) error
	Arrive(ctx context.Context, id string) error
	// State is what the machine does; errs.NotFound when there is none.
	State(id string) (nodeapi.Power, error)
	// Spec is what the machine was last started with.
	Spec(id string) (Spec, error)
	// List names the machines that have a directory, in order.
	List() ([]string, error)
	// Remove ends the machine and removes every trace of it.
	Remove(ctx context.Context, id string) error
	// ConsoleLog returns the last lines that the guest wrote to its serial
	// console; all that is kept when lines is 0 or less.
	ConsoleLog(id string, lines int) ([]byte, error)
	// Console reaches a running machine's screen (vnc: an RFB server) or its serial
	// console, which serves one client at a time beside the log.
	Console(ctx context.Context, id, kind string) (net.Conn, error)
	// Interrupt sends a running machine a non-maskable interrupt.
	Interrupt(ctx context.Context, id string) error
	// SetPassword sets a user's password in a running machine, through the agent in
	// the guest. Unavailable: there is none that answers.
	SetPassword(ctx context.Context, id, user, password string) error
	// Diagnostics counts what a running machine did, disks and NICs in the order
	// of its Spec; the traffic of the NICs is not known here.
	Diagnostics(ctx context.Context, id string) (*nodeapi.Diagnostics, error)
	// Events tells of changes until Close.
	Events() <-chan Event
	// Close lets go of all machines; they go on running.
	Close()
}

// Config is what a QEMU driver needs.
type Config struct {
	Dir     string // of the machines' directories
	Program string // QEMU; default qemu-system-x86_64
	UID     int    // QEMU's user and group; must not be 0
	GID     int
	Groups  []int           // further groups, such as that of /dev/kvm
	Accel   Accel           // as Probe told
	Cgroups *cgroup.Manager // nil: no limits
	Log     *slog.Logger
}

// QEMU is the Driver that launches qemu-system processes.
type QEMU struct {
	Config
	events chan Event
	life   context.Context // of the goroutines that belong to the driver
	stop   context.CancelFunc
	group  sync.WaitGroup // what watches processes and consoles
	moves  sync.WaitGroup // what sends and receives machines

	mu       sync.Mutex
	closed   bool
	machines map[string]*machine
}

var _ Driver = (*QEMU)(nil)

// New makes the driver and adopts the machines that run already. ctx bounds the
// adoption and, when it ends, the driver's own goroutines.
func New(ctx context.Context, c Config) (*QEMU, error) {
	if c.Program == "" {
		c.Program = "qemu-system-x86_64"
	}
	if c.UID == 0 || c.GID == 0 {
		return nil, errors.New("QEMU must not run as root: configure a uid and a gid")
	}
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the machines' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(c.Dir) // as /proc shows it
	if err != nil {
		return nil, fmt.Errorf("finding the machines' directory: %w", err)
	}
	c.Dir = dir
	ctx, stop := context.WithCancel(ctx)
	d := &QEMU{Config: c, events: make(chan Event, 1024), life: ctx, stop: stop, machines: map[string]*machine{}}
	ids, err := d.List()
	if err != nil {
		stop()
		return nil, err
	}
	for _, id := range ids {
		m := d.newMachine(id)
		d.machines[id] = m
		if err := m.adopt(ctx); err != nil {
			d.Log.Warn("adopting a machine", "server", id, "err", err)
		}
	}
	if err := d.endStrays(ctx); err != nil {
		d.Log.Error("processes that a crash left stay", "err", err)
	}
	d.group.Go(func() { d.trimConsoles(ctx) })
	return d, nil
}

// Close implements Driver.
func (d *QEMU) Close() {
	d.stop()
	d.mu.Lock()
	d.closed = true
	all := make([]*machine, 0, len(d.machines))
	for _, m := range d.machines {
		all = append(all, m)
	}
	d.mu.Unlock()
	// Moves may still be waiting for a process to end, which nobody tells them of
	// once it is let go.
	d.moves.Wait()
	for _, m := range all {
		m.release()
	}
	d.group.Wait()
	close(d.events)
}

// Events implements Driver.
func (d *QEMU) Events() <-chan Event { return d.events }

func (d *QEMU) emit(e Event) {
	select {
	case d.events <- e:
	default:
	}
}

// List implements Driver.
func (d *QEMU) List() ([]string, error) {
	entries, err := os.ReadDir(d.Config.Dir)
	if err != nil {
		return nil, fmt.Errorf("listing machines: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && idPattern.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Dir implements Driver.
func (d *QEMU) Dir(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", errs.Invalidf("machine id %q is not a UUID", id)
	}
	dir := filepath.Join(d.Config.Dir, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making a machine's directory: %w", err)
	}
	return dir, os.Chown(dir, d.UID, d.GID)
}

func (d *QEMU) newMachine(id string) *machine {
	return &machine{d: d, id: id, op: make(chan struct{}, 1), dir: filepath.Join(d.Config.Dir, id)}
}

// find returns the machine when it exists.
func (d *QEMU) find(id string) (*machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.machines[id]; m != nil {
		return m, nil
	}
	if _, err := os.Stat(filepath.Join(d.Config.Dir, id)); !idPattern.MatchString(id) || errors.Is(err, fs.ErrNotExist) {
		return nil, errs.NotFoundf("there is no machine %s here", id)
	}
	m := d.newMachine(id)
	d.machines[id] = m
	return m, nil
}

// Start implements Driver.
func (d *QEMU) Start(ctx context.Context, s Spec, taps []*os.File) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if len(taps) != len(s.NICs) {
		return errs.Invalidf("%d taps for %d NICs", len(taps), len(s.NICs))
	}
	m, err := d.begin(ctx, s.ID)
	if err != nil {
		return err
	}
	defer m.unlock()
	if err := m.stays(); err != nil {
		return err
	}
	if m.running() {
		return nil
	}
	s.Clone = false
	if err := m.launch(ctx, m.afresh(s), taps, nil); err != nil {
		return fmt.Errorf("starting machine %s: %w", s.ID, err)
	}
	return nil
}

// begin finds or makes the machine and locks it.
func (d *QEMU) begin(ctx context.Context, id string) (*machine, error) {
	if _, err := d.Dir(id); err != nil {
		return nil, err
	}
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	return m, m.lock(ctx)
}

// afresh prepares a start that has nothing to do with what was: it forgets a
// suspend, and places devices anew.
func (m *machine) afresh(s Spec) Spec {
	os.Remove(filepath.Join(m.dir, memoryFile))
	s.Ports = 0
	s.Disks, s.NICs = slices.Clone(s.Disks), slices.Clone(s.NICs)
	return s
}

// State implements Driver.
func (d *QEMU) State(id string) (nodeapi.Power, error) {
	m, err := d.find(id)
	if err != nil {
		return "", err
	}
	return m.power(), nil
}

// Spec implements Driver.
func (d *QEMU) Spec(id string) (Spec, error) {
	m, err := d.find(id)
	if err != nil {
		return Spec{}, err
	}
	st, err := m.readState()
	if errors.Is(err, fs.ErrNotExist) {
		return Spec{}, errs.NotFoundf("machine %s was never started", id)
	}
	if err == nil && st.Spec.ID == "" { // it has moved without a start
		err = errs.NotFoundf("machine %s was never started", id)
	}
	return st.Spec, err
}

// Remove implements Driver.
func (d *QEMU) Remove(ctx context.Context, id string) error {
	m, err := d.find(id)
	if errs.Is(err, errs.NotFound) {
		return d.removeCgroup(ctx, id)
	}
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	m.haltMove()
	m.letMoveGo()
	m.expect()
	if err := errors.Join(m.endAll(ctx), m.kill(ctx)); err != nil {
		return fmt.Errorf("removing machine %s: %w", id, err)
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return fmt.Errorf("removing machine %s: %w", id, err)
	}
	d.mu.Lock()
	delete(d.machines, id)
	d.mu.Unlock()
	return nil
}

func (d *QEMU) removeCgroup(ctx context.Context, id string) error {
	if d.Cgroups == nil || !idPattern.MatchString(id) {
		return nil
	}
	return d.Cgroups.Remove(ctx, id)
}
