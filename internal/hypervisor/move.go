package hypervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/process"
)

// MoveRole is a machine's part in a move between hosts.
type MoveRole string

// The roles.
const (
	MoveNone MoveRole = ""
	MoveIn   MoveRole = "in"  // it comes from another host, until Arrive
	MoveOut  MoveRole = "out" // it goes to another host, until EndMove, or, once done, Remove
)

// Move is how far a machine's move has come.
type Move struct {
	Role MoveRole
	nodeapi.MoveProgress
}

// Arrival is a machine that comes from another host.
type Arrival struct {
	// Spec is the machine as this host would launch it. What its guest sees of it is
	// as the other host says, and where its disks are and their keys as it is here.
	Spec  Spec
	Own   []string            // names of the disks whose contents come
	Taps  map[string]*os.File // by NIC.ID; they stay the caller's to close
	Power nodeapi.Power       // that it will have: with running or paused its memory comes too, with suspended the saved one
	Addr  string              // of this host, that the other one reaches
}

// live tells whether the machine's memory comes while it is in use.
func (a *Arrival) live() bool { return isLive(a.Power) }

func isLive(p nodeapi.Power) bool { return p == nodeapi.PowerRunning || p == nodeapi.PowerPaused }

// Departure is a machine that goes to another host.
type Departure struct {
	To    nodeapi.MoveTarget
	Live  bool
	Disks []Outgoing // its own
}

// Outgoing is a disk that goes to another host.
type Outgoing struct {
	Disk
	Top bool // the other host has its base: only what is above goes
}

// Names of the files of a move in a machine's directory, and of its objects.
const (
	moveSocket = "move.sock"
	moveLog    = "move.log"
	movePSKDir = "move-psk"
	switchFile = "move-switch"
	offerFile  = "move-offer"
	moveCreds  = "move-tls"
)

// moveState is what state.json keeps of a move.
type moveState struct {
	Role   MoveRole           `json:"role"`
	Live   bool               `json:"live"`
	Power  nodeapi.Power      `json:"power"` // before and after
	Target nodeapi.MoveTarget `json:"target"`
	Worker process.ID         `json:"worker"` // has the disks open that no QEMU of a guest has open
	// Done is set by the sending host at the moment from which the machine is the
	// other one's, and by that one when it knows. Over: nothing is left to do.
	Done  bool   `json:"done"`
	Over  bool   `json:"over"`
	Fault string `json:"fault,omitempty"`
	// Stopped is when the guest was stopped for the last time at the sending host.
	Stopped time.Time `json:"stopped,omitzero"`
	// Last is the progress when it ended.
	Last nodeapi.MoveProgress `json:"last"`
}

// move is a machine's move, with what lives as long as the driver.
type move struct {
	moveState
	arrival *Arrival // nil after a restart
	worker  *monitor
	cancel  context.CancelFunc // ends the goroutine that sends or receives
	ended   chan struct{}      // closed when that is over
	wake    chan struct{}      // QEMU said something
	now     nodeapi.MoveProgress
}

// moving gives the machine's move as it is now; nil: there is none.
func (m *machine) moving() *moveState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.move == nil {
		return nil
	}
	st := m.move.moveState
	return &st
}

// updateMove changes the move, here and in state.json.
func (m *machine) updateMove(change func(*moveState)) error {
	return m.editState(func(*machineState) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.move != nil {
			change(&m.move.moveState)
		}
	})
}

// beginMove makes mv the machine's move.
func (m *machine) beginMove(mv *move) error {
	return m.editState(func(*machineState) { m.putMove(mv) })
}

func (m *machine) putMove(mv *move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.move = mv
}

// forgetMove makes the machine one that does not move.
func (m *machine) forgetMove() error {
	m.letMoveGo()
	err := m.editState(func(*machineState) { m.putMove(nil) })
	for _, name := range []string{switchFile, offerFile, moveLog, moveSocket, movePSKDir} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(m.dir, name)))
	}
	return err
}

// stays refuses what would run the guest of a machine that is the other host's, or
// that has no content of one of its disks, or change one that stands still to be copied.
func (m *machine) stays() error {
	if err := m.mayGoOn(); err != nil {
		return err
	}
	mv := m.moving()
	switch {
	case mv == nil || mv.Role == MoveIn && mv.Over:
		return nil
	case mv.Role == MoveOut && mv.Done:
		return errs.Conflictf("machine %s has moved to another node", m.id)
	case mv.Role == MoveOut && (mv.Live || mv.Fault != ""):
		return nil
	}
	return errs.Conflictf("machine %s is being moved", m.id)
}

// Move implements Driver.
func (d *QEMU) Move(id string) (Move, error) {
	m, err := d.find(id)
	if err != nil {
		return Move{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mv := m.move
	if mv == nil {
		return Move{}, nil
	}
	out := Move{Role: mv.Role, MoveProgress: mv.now}
	switch {
	case mv.Over && mv.Role == MoveOut: // until then the other host may have to be told
		out.MoveProgress = mv.Last
	case mv.Fault != "":
		out.Phase, out.Fault = nodeapi.MoveFailed, mv.Fault
	}
	return out, nil
}

// ForceMove implements Driver.
func (d *QEMU) ForceMove(ctx context.Context, id string) error {
	return d.locked(ctx, id, "forcing the move of", func(m *machine) error {
		mv := m.moving()
		if mv == nil || mv.Role != MoveOut || !mv.Live || mv.Done || mv.Fault != "" {
			return errs.Conflictf("no live move of machine %s is under way", id)
		}
		return m.command(ctx, "stop", nil, nil)
	})
}

// EndMove implements Driver.
func (d *QEMU) EndMove(ctx context.Context, id string) error {
	m, err := d.find(id)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	if mv := m.moving(); mv != nil && mv.Done { // what is left is not disturbed
		m.unlock()
		return errs.Conflictf("machine %s has moved", id)
	}
	m.haltMove()
	mv := m.moving()
	if mv != nil && mv.Role == MoveIn && !mv.Done && mv.Fault == "" && m.told() {
		m.receiveOn() // goes on to the end
		m.unlock()
		return errs.Conflictf("machine %s has moved here", id)
	}
	defer m.unlock()
	switch {
	case mv == nil:
		return nil
	case mv.Done:
		return errs.Conflictf("machine %s has moved", id)
	case mv.Role == MoveOut:
		return m.forgetMove()
	}
	m.expect()
	if err := errors.Join(m.endAll(ctx), m.kill(ctx)); err != nil {
		return err
	}
	return m.forgetMove()
}

// haltMove ends the goroutine of a move that is not done; one that sends undoes
// what it did first.
func (m *machine) haltMove() {
	m.mu.Lock()
	var cancel context.CancelFunc
	var ended chan struct{}
	if m.move != nil {
		cancel, ended = m.move.cancel, m.move.ended
	}
	m.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

// background runs the machine's move until it ends, Close or haltMove.
func (m *machine) background(run func(context.Context)) {
	ctx, cancel := context.WithCancel(m.d.life)
	ended := make(chan struct{})
	m.mu.Lock()
	m.move.cancel, m.move.ended = cancel, ended
	m.mu.Unlock()
	m.d.moves.Go(func() {
		defer close(ended)
		defer cancel()
		run(ctx)
	})
}

// letMoveGo closes the monitor of a move's worker, which goes on.
func (m *machine) letMoveGo() {
	m.mu.Lock()
	var mon *monitor
	if m.move != nil {
		mon = m.move.worker
		m.move.worker = nil
	}
	m.mu.Unlock()
	if mon != nil {
		mon.close()
	}
}

// moveEvent takes QEMU's word on a machine that is being sent: its guest stops and
// goes on as the move wants, which is nobody else's business. False: it is not.
func (m *machine) moveEvent(e qmpEvent) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	mv := m.move
	if mv == nil || mv.Role != MoveOut || mv.Fault != "" || !mv.Live {
		return false
	}
	if e.Name == "STOP" && mv.Stopped.IsZero() {
		mv.Stopped = time.Now()
	}
	select {
	case mv.wake <- struct{}{}:
	default:
	}
	return true
}

// newPSK makes the key of a move.
func newPSK() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}
