package hypervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/process"
)

// machineState is what state.json keeps of a machine.
type machineState struct {
	Spec      Spec       `json:"spec"`
	Process   process.ID `json:"process"`
	Crashed   string     `json:"crashed"`           // why QEMU died by itself; "" when it did not
	Suspended bool       `json:"suspended"`         // memory.img is complete
	Off       bool       `json:"off,omitempty"`     // its guest shut it down, or we ended it
	Cloning   bool       `json:"cloning,omitempty"` // being read from a template; its guest has not run yet, or just has
	// Swapping is a disk that is being reached in another way; nil: none is.
	Swapping *swapping `json:"swapping,omitempty"`
	// Move is the machine's move to or from another host; what is in memory counts.
	Move *moveState `json:"move,omitempty"`
}

// machine is one virtual machine. op is held by an operation for its whole
// length, which for an unplug may be long; mu guards the fields and is never held while waiting.
type machine struct {
	d   *QEMU
	id  string
	dir string
	op  chan struct{} // has one element while an operation is on

	file sync.Mutex // state.json is being changed

	mu       sync.Mutex
	state    nodeapi.Power // running or paused while a process is there
	process  process.ID
	mon      *monitor
	exited   chan struct{} // closed when the process has ended and that was written down
	letGo    func()        // ends the watch of the process
	expected bool          // we asked for the end
	off      bool          // the guest has shut down
	notify   chan qmpEvent // an operation that waits for events
	move     *move         // to or from another host; nil: none
	swapped  string        // disk that is being swapped; "": none
}

// lock begins an operation; unlock ends it.
func (m *machine) lock(ctx context.Context) error {
	select {
	case m.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("machine %s is busy: %w", m.id, context.Cause(ctx))
	}
}

func (m *machine) unlock() { <-m.op }

func (m *machine) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exited != nil
}

func (m *machine) power() nodeapi.Power {
	m.mu.Lock()
	state, alive := m.state, m.exited != nil
	mv := m.move
	elsewhere := mv != nil && (mv.Role == MoveIn && !mv.Over || mv.Role == MoveOut && mv.Done)
	m.mu.Unlock()
	if elsewhere {
		return nodeapi.PowerStopped
	}
	if alive {
		return state
	}
	st, err := m.readState()
	switch {
	case err != nil:
		return nodeapi.PowerStopped
	case st.Suspended:
		return nodeapi.PowerSuspended
	case st.Crashed != "":
		return nodeapi.PowerCrashed
	}
	return nodeapi.PowerStopped
}

func (m *machine) readState() (machineState, error) {
	var st machineState
	data, err := os.ReadFile(filepath.Join(m.dir, stateFile))
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("reading %s of machine %s: %w", stateFile, m.id, err)
	}
	return st, nil
}

// writeState replaces state.json at once, so that a reader never sees half of it.
func (m *machine) writeState(st machineState) error {
	m.file.Lock()
	defer m.file.Unlock()
	return m.replaceState(st)
}

// replaceState is writeState for who holds file. The move is in it as it is in
// memory; that a machine is the other host's has to survive a loss of power.
func (m *machine) replaceState(st machineState) error {
	st.Move = m.moving()
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	tmp := filepath.Join(m.dir, stateFile+".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(m.dir, stateFile)); err != nil {
		return err
	}
	if st.Move != nil && st.Move.Done {
		return durably(filepath.Join(m.dir, stateFile))
	}
	return nil
}

// editState changes state.json, which is made when it is not there.
func (m *machine) editState(change func(*machineState)) error {
	m.file.Lock()
	defer m.file.Unlock()
	st, err := m.readState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	change(&st)
	return m.replaceState(st)
}

// changeState rewrites state.json; a machine that was never started has none to change.
func (m *machine) changeState(change func(*machineState)) {
	m.file.Lock()
	defer m.file.Unlock()
	st, err := m.readState()
	if err == nil {
		change(&st)
		err = m.replaceState(st)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.d.Log.Error("writing a machine's state", "server", m.id, "err", err)
	}
}

// adopt takes up a machine whose process an earlier life of ours started.
func (m *machine) adopt(ctx context.Context) error {
	st, err := m.readState()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Move != nil {
		m.move = &move{moveState: *st.Move, wake: make(chan struct{}, 1)}
	}
	alive := st.Process.Alive()
	if alive {
		if st.Swapping != nil {
			m.setSwapped(st.Swapping.Disk)
		}
		if err := m.watch(st.Process, nil); err != nil {
			return err
		}
		m.removeSecrets()
		if err := m.connect(ctx); err != nil {
			return fmt.Errorf("connecting to the monitor: %w", err)
		}
	}
	if done, err := m.adoptMove(ctx); done || err != nil || !alive {
		return err
	}
	if err := m.settle(ctx, st); err != nil || !m.running() {
		return err
	}
	_, err = m.trimmed(ctx)
	return err
}

// settle brings a machine that we did not watch for a while into a plain
// state: a soft reboot or a restore that was cut in half is finished, a suspend
// is undone, a clone that was cut in half is ended. st is what state.json said.
func (m *machine) settle(ctx context.Context, st machineState) error {
	var status struct {
		Status string `json:"status"`
	}
	if err := m.command(ctx, "query-status", nil, &status); err != nil {
		return err
	}
	if st.Cloning && status.Status != "running" { // its guest never ran: its disks are as they were
		return m.kill(ctx)
	}
	if err := m.command(ctx, "set-action", map[string]string{"shutdown": "poweroff"}, nil); err != nil {
		return err
	}
	var err error
	switch {
	case st.Swapping != nil: // whoever is to open the disk lets it go on
		return nil
	case status.Status == "shutdown":
		if err = m.command(ctx, "system_reset", nil, nil); err == nil {
			err = m.command(ctx, "cont", nil, nil)
		}
	case status.Status == "inmigrate":
		err = m.loaded(ctx)
	case status.Status == "postmigrate", status.Status == "finish-migrate", st.Suspended:
		err = m.command(ctx, "cont", nil, nil)
	case status.Status != "running":
		m.setPower(nodeapi.PowerPaused, "")
	}
	if err != nil {
		return err
	}
	os.Remove(filepath.Join(m.dir, memoryFile))
	m.changeState(func(s *machineState) { s.Suspended, s.Cloning, s.Crashed = false, false, "" })
	return nil
}

// watch follows the process to its end. cmd is set when it is our child.
func (m *machine) watch(p process.ID, cmd *exec.Cmd) error {
	ended, letGo, err := p.Wait()
	if err != nil {
		return err
	}
	exited := make(chan struct{})
	m.mu.Lock()
	m.process, m.exited, m.letGo, m.expected, m.off, m.state = p, exited, letGo, false, false, nodeapi.PowerRunning
	m.mu.Unlock()
	m.d.group.Go(func() {
		if <-ended {
			m.ended(cmd, exited)
		}
	})
	return nil
}

// ended writes down that the process is gone, and why.
func (m *machine) ended(cmd *exec.Cmd, exited chan struct{}) {
	why := ""
	if cmd != nil {
		if err := cmd.Wait(); err != nil {
			why = err.Error()
		}
	}
	m.mu.Lock()
	mon, expected, off := m.mon, m.expected, m.expected || m.off
	m.mon = nil
	m.mu.Unlock()
	if mon != nil {
		mon.close()
	}
	if expected {
		why = ""
	}
	if why != "" {
		why = "QEMU ended by itself: " + why + lastLog(filepath.Join(m.dir, qemuLogFile))
	}
	m.changeState(func(s *machineState) { s.Process, s.Crashed, s.Off = process.ID{}, why, off })
	m.mu.Lock()
	m.exited, m.letGo, m.swapped = nil, nil, ""
	m.mu.Unlock()
	close(exited)
	m.d.emit(Event{ID: m.id, Power: m.power(), Reason: why})
}

// connect opens the monitor.
func (m *machine) connect(ctx context.Context) error {
	mon, err := dialMonitor(ctx, m.dir, monitorSocket, m.event)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.mon = mon
	m.mu.Unlock()
	return nil
}

// release lets go of the process without ending it.
func (m *machine) release() {
	m.mu.Lock()
	mon, letGo := m.mon, m.letGo
	m.mon, m.letGo = nil, nil
	m.mu.Unlock()
	if letGo != nil {
		letGo()
	}
	m.letMoveGo()
	if mon != nil {
		mon.close()
	}
}

// event takes an asynchronous message of QEMU; it must not wait.
func (m *machine) event(e qmpEvent) {
	own := m.moveEvent(e) || m.mayGoOn() != nil
	switch e.Name {
	case "STOP", "RESUME":
		if own {
			return
		}
	}
	switch e.Name {
	case "SHUTDOWN":
		m.setOff(!bytes.Contains(e.Data, []byte(`"host-signal"`)))
	case "STOP":
		m.setPower(nodeapi.PowerPaused, "")
	case "RESUME":
		m.setOff(false) // it was reset instead
		m.setPower(nodeapi.PowerRunning, "")
	case "GUEST_PANICKED":
		m.d.emit(Event{ID: m.id, Power: m.power(), Reason: "the guest's kernel panicked"})
	}
	m.mu.Lock()
	ch := m.notify
	m.mu.Unlock()
	if ch != nil {
		select {
		case ch <- e:
		default:
		}
	}
}

func (m *machine) setOff(off bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = off
}

func (m *machine) setPower(p nodeapi.Power, reason string) {
	m.mu.Lock()
	changed := m.exited != nil && m.state != p
	if changed {
		m.state = p
	}
	m.mu.Unlock()
	if changed {
		m.d.emit(Event{ID: m.id, Power: p, Reason: reason})
	}
}

// command runs a QMP command on the running machine.
func (m *machine) command(ctx context.Context, name string, args, out any) error {
	return m.commandFD(ctx, name, args, out, nil)
}

func (m *machine) commandFD(ctx context.Context, name string, args, out any, file *os.File) error {
	if name == "cont" {
		if err := m.mayGoOn(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	mon := m.mon
	m.mu.Unlock()
	if mon == nil {
		return fmt.Errorf("%s: %w", name, errMonitorClosed)
	}
	return mon.runFD(ctx, name, args, out, file)
}

// listen sends the machine's events to a channel until the returned function is called.
func (m *machine) listen() (<-chan qmpEvent, func()) {
	ch := make(chan qmpEvent, 64)
	m.mu.Lock()
	m.notify = ch
	m.mu.Unlock()
	return ch, func() {
		m.mu.Lock()
		m.notify = nil
		m.mu.Unlock()
	}
}
