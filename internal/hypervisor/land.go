package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// launchReceiver starts the QEMU that takes the machine's memory. It opens the
// disks without using them: the worker has them until the guest goes on.
func (m *machine) launchReceiver(ctx context.Context, there *Spec) error {
	m.mu.Lock()
	a, mv := m.move.arrival, m.move.moveState
	m.mu.Unlock()
	s, err := merge(there, &a.Spec)
	if err != nil {
		return err
	}
	var taps []*os.File
	for _, n := range s.NICs {
		t := a.Taps[n.ID]
		if t == nil {
			return errs.Conflictf("network card %s of the machine is not here", n.ID)
		}
		taps = append(taps, t)
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if err := m.launch(ctx, s, taps, &origin{}); err != nil {
		return err
	}
	if err := m.command(ctx, "object-add", pskServer(), nil); err != nil {
		return err
	}
	// Without late activation it would open the disks for good before it is told to.
	if err := m.migrationCaps(ctx, "events", "late-block-activate", "return-path"); err != nil {
		return err
	}
	if err := m.command(ctx, "migrate-set-parameters", map[string]string{"tls-creds": moveCreds}, nil); err != nil {
		return err
	}
	return m.command(ctx, "migrate-incoming", map[string]string{"uri": "tcp:" + mv.Target.Memory}, nil)
}

// movedCaps are the capabilities that moves use.
var movedCaps = []string{"events", "late-block-activate", "return-path", "pause-before-switchover", "auto-converge", "x-ignore-shared"}

// migrationCaps sets the capabilities that are named, and none of the others.
func (m *machine) migrationCaps(ctx context.Context, on ...string) error {
	var list []any
	for _, c := range movedCaps {
		state := false
		for _, o := range on {
			state = state || o == c
		}
		list = append(list, map[string]any{"capability": c, "state": state})
	}
	return m.command(ctx, "migrate-set-capabilities", map[string]any{"capabilities": list}, nil)
}

// plainMigration has QEMU save memory again as if nothing had been moved.
func (m *machine) plainMigration(ctx context.Context) error {
	err := errors.Join(m.command(ctx, "migrate-set-parameters", map[string]string{"tls-creds": ""}, nil), m.migrationCaps(ctx))
	_ = m.command(ctx, "object-del", map[string]string{"id": moveCreds}, nil) // it may not be there
	return err
}

// Arrive implements Driver.
func (d *QEMU) Arrive(ctx context.Context, id string) error {
	m, err := d.find(id)
	if err != nil {
		return err
	}
	mv := m.moving()
	if mv == nil || mv.Role != MoveIn {
		return nil
	}
	if !mv.Over {
		m.haltMove()
		if err := m.land(ctx); err != nil {
			return err
		}
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	m.haltMove()
	if m.running() {
		if err := m.plainMigration(ctx); err != nil {
			return err
		}
	}
	return m.forgetMove()
}

// land has the machine go on here: it is this host's. It may be repeated.
func (m *machine) land(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	mv := m.moving()
	if mv == nil || mv.Role != MoveIn || mv.Over {
		return nil
	}
	if err := m.updateMove(func(s *moveState) { s.Done = true }); err != nil {
		return err
	}
	if err := m.endWorker(ctx); err != nil {
		return err
	}
	var err error
	if mv.Live {
		err = m.landLive(ctx, mv.Power)
	} else {
		err = m.landFiles(mv.Power)
	}
	if err != nil {
		return fmt.Errorf("taking over machine %s: %w", m.id, err)
	}
	err = m.updateMove(func(s *moveState) { s.Over = true })
	m.d.emit(Event{ID: m.id, Power: m.power()})
	return err
}

// landLive lets the guest go on and tells the network where it is.
func (m *machine) landLive(ctx context.Context, power nodeapi.Power) error {
	if !m.running() {
		return nil // it has ended since
	}
	if err := m.awaitMigration(ctx); err != nil {
		return err
	}
	// It is continued even to be paused: the disks cannot be worked on before.
	if err := m.command(ctx, "cont", nil, nil); err != nil {
		return err
	}
	if power == nodeapi.PowerPaused {
		err := m.command(ctx, "stop", nil, nil)
		m.setPower(nodeapi.PowerPaused, "")
		return err
	}
	m.setPower(nodeapi.PowerRunning, "")
	// As often as upstream's defaults have it (qapi's AnnounceParameters).
	return m.command(ctx, "announce-self", map[string]int{"initial": 50, "max": 550, "rounds": 5, "step": 100}, nil)
}

// landFiles writes down what the machine is that came as files.
func (m *machine) landFiles(power nodeapi.Power) error {
	there, err := m.readOffer()
	if err != nil {
		return err
	}
	st, err := m.readState()
	if err != nil || there == nil {
		return err
	}
	s, err := merge(there, &st.Spec)
	if err != nil {
		return err
	}
	return m.editState(func(st *machineState) { st.Spec, st.Suspended = s, power == nodeapi.PowerSuspended })
}

// adoptMove takes up a move after a restart. True: the machine's process needs no more.
func (m *machine) adoptMove(ctx context.Context) (bool, error) {
	mv := m.moving()
	if mv == nil || mv.Fault != "" && mv.Role == MoveOut {
		return false, nil
	}
	if mv.Role == MoveIn {
		if mv.Live && !mv.Done && !m.running() { // its taps are lost
			m.refuse(ctx, "the node's agent was restarted before the machine came")
			return true, nil
		}
		if mv.Worker.Alive() {
			mon, err := m.dialWorker(ctx, mv.Worker)
			if err != nil {
				return true, err
			}
			m.mu.Lock()
			m.move.worker = mon
			m.mu.Unlock()
		}
		if !mv.Over && mv.Fault == "" {
			m.receiveOn()
		}
		return !mv.Over, nil
	}
	return m.adoptSend(ctx, mv)
}

// durably makes a file and its name last.
func durably(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	d, derr := os.Open(filepath.Dir(path))
	if derr != nil {
		return errors.Join(err, derr)
	}
	return errors.Join(err, d.Sync(), d.Close())
}
