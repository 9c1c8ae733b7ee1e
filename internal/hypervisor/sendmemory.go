package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// migration is what QEMU tells of the sending of memory.
type migration struct {
	Status   string `json:"status"`
	Error    string `json:"error-desc"`
	Downtime int64  `json:"downtime"`
	RAM      struct {
		Total       int64 `json:"total"`
		Transferred int64 `json:"transferred"`
		Remaining   int64 `json:"remaining"`
	} `json:"ram"`
}

// sendMemory sends the memory and the devices; the guest stands still from shortly
// before the end.
func (s *sender) sendMemory(ctx context.Context) error {
	m := s.m
	if err := m.migrationCaps(ctx, "events", "pause-before-switchover", "auto-converge", "return-path"); err != nil {
		return err
	}
	if err := m.command(ctx, "migrate-set-parameters", map[string]any{"tls-creds": moveCreds, "max-bandwidth": int64(1) << 40}, nil); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	m.progress(func(p *nodeapi.MoveProgress) { p.Phase = nodeapi.MoveMemory })
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		done, err := s.step(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-s.wake:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// migrate begins to send, as soon as the other host listens.
func (s *sender) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, receiverTimeout)
	defer cancel()
	for {
		if err := s.m.command(ctx, "migrate", map[string]any{"uri": "tcp:" + s.to.Memory}, nil); err != nil && !strings.Contains(err.Error(), "refused") {
			return err
		}
		var info migration
		for {
			if err := s.m.command(ctx, "query-migrate", nil, &info); err != nil {
				return err
			}
			if info.Status != "setup" && info.Status != "none" && info.Status != "" {
				break
			}
			if err := wait.Pause(ctx, 2*time.Millisecond); err != nil {
				return err
			}
		}
		if info.Status != "failed" {
			return nil
		}
		if !strings.Contains(info.Error, "refused") {
			return fmt.Errorf("sending memory: %s", info.Error)
		}
		if err := s.watchDisks(ctx); err != nil {
			return err
		}
		if err := wait.Pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the other node does not take the memory: %w", err)
		}
	}
}

// step looks how far the memory is, and does what is due.
func (s *sender) step(ctx context.Context) (bool, error) {
	var info migration
	if err := s.m.command(ctx, "query-migrate", nil, &info); err != nil {
		return false, err
	}
	s.m.progress(func(p *nodeapi.MoveProgress) {
		if info.RAM.Total > 0 {
			p.MemoryTotal, p.MemoryProcessed, p.MemoryRemaining = info.RAM.Total, info.RAM.Transferred, info.RAM.Remaining
		}
	})
	switch info.Status {
	case "completed":
		return true, nil
	case "failed", "cancelled", "cancelling":
		return false, fmt.Errorf("sending memory %s: %s", info.Status, info.Error)
	case "pre-switchover":
		if s.continued { // it is still on its way from there
			return false, nil
		}
		if err := s.m.endMirrors(ctx, s.run); err != nil {
			return false, err
		}
		s.continued = true
		return false, s.m.command(ctx, "migrate-continue", map[string]string{"state": "pre-switchover"}, nil)
	}
	return false, s.watchDisks(ctx)
}

// watchDisks counts what is copied, and fails when a copy is not kept up any more.
func (s *sender) watchDisks(ctx context.Context) error {
	jobs, err := mirrors(ctx, s.run)
	if err != nil || len(jobs) == 0 {
		return err
	}
	s.m.countDisks(jobs)
	for _, j := range jobs {
		if j.Status == "concluded" {
			return fmt.Errorf("copying a disk ended early: %s", j.Error)
		}
	}
	return nil
}

// finish tells the other host that the machine is its own, and ends what is here.
func (m *machine) finish(ctx context.Context) {
	mv := m.moving()
	run := m.command
	if !mv.Live {
		run = m.worker
	}
	err := m.giveWord(ctx, run)
	last := m.lastProgress(mv)
	if err != nil {
		err = m.repeatWord(ctx, run, err)
	}
	if m.d.life.Err() != nil {
		return
	}
	if err != nil {
		m.d.Log.Warn("the other node learns from the control plane alone that a machine is its own", "server", m.id, "err", err)
	}
	m.expect()
	if err := errors.Join(m.endWorker(ctx), m.kill(ctx)); err != nil {
		m.d.Log.Error("a machine that has moved is not ended", "server", m.id, "err", err)
	}
	if err := m.updateMove(func(s *moveState) { s.Over, s.Last = true, last }); err != nil {
		m.d.Log.Error("writing a machine's state", "server", m.id, "err", err)
	}
}

func (m *machine) giveWord(ctx context.Context, run qmpRunner) error {
	return m.throwSwitch(ctx, run, fmt.Sprintf("-P %d 0 512", switchWord))
}

// repeatWord gives the word for a while. The other host may have heard it and serve no more.
func (m *machine) repeatWord(ctx context.Context, run qmpRunner, err error) error {
	ctx, cancel := context.WithTimeout(ctx, wordTimeout)
	defer cancel()
	for err != nil && m.d.life.Err() == nil && !errors.Is(err, errMonitorClosed) && wait.Pause(ctx, 100*time.Millisecond) == nil {
		err = m.giveWord(ctx, run)
	}
	return err
}

// lastProgress is what is told of a move that is done.
func (m *machine) lastProgress(mv *moveState) nodeapi.MoveProgress {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.move.now
	if mv.Live && !mv.Stopped.IsZero() {
		last.DowntimeMS = time.Since(mv.Stopped).Milliseconds()
	}
	last.Phase, last.MemoryRemaining, last.DiskRemaining = nodeapi.MoveDone, 0, 0
	return last
}

// giveUp brings a machine that was not sent back to where it was.
func (m *machine) giveUp(ctx context.Context, why string) {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	mv := m.moving()
	var err error
	if !mv.Live {
		err = m.endWorker(ctx)
	} else if m.running() {
		err = m.undoSend(ctx, mv)
	}
	if err != nil {
		m.d.Log.Error("a move is not undone", "server", m.id, "err", err)
	}
	if err := m.updateMove(func(s *moveState) { s.Fault, s.Done = why, false }); err != nil {
		m.d.Log.Error("writing a machine's state", "server", m.id, "err", err)
	}
	m.d.emit(Event{ID: m.id, Power: m.power(), Reason: "the move failed"})
}

// undoSend has the guest go on, and removes what the move made in its QEMU.
func (m *machine) undoSend(ctx context.Context, mv *moveState) error {
	_ = m.command(ctx, "migrate_cancel", nil, nil)
	for {
		var info migration
		if err := m.command(ctx, "query-migrate", nil, &info); err != nil {
			return err
		}
		if info.Status == "" || info.Status == "none" || info.Status == "failed" || info.Status == "cancelled" || info.Status == "completed" {
			break
		}
		if err := wait.Pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	_ = m.endMirrors(ctx, m.command) // what failed with a copy is of no interest any more
	var err error
	if mv.Power == nodeapi.PowerRunning {
		err = m.command(ctx, "cont", nil, nil)
	}
	for name := range mv.Target.Disks {
		_ = m.command(ctx, "blockdev-del", map[string]string{"node-name": remoteNode(name)}, nil) // most are not there
	}
	return errors.Join(err, m.plainMigration(ctx))
}

// adoptSend takes up a sending that a restart cut in half: what is the other
// host's is so, and anything else stays here.
func (m *machine) adoptSend(ctx context.Context, mv *moveState) (bool, error) {
	switch {
	case mv.Over:
		return true, m.kill(ctx)
	case mv.Done:
		if mv.Worker.Alive() {
			mon, err := m.dialWorker(ctx, mv.Worker)
			if err != nil {
				return true, err
			}
			m.mu.Lock()
			m.move.worker = mon
			m.mu.Unlock()
		}
		m.background(func(ctx context.Context) { m.finish(context.WithoutCancel(ctx)) })
		return true, nil
	}
	const why = "the node's agent was restarted meanwhile"
	if mv.Worker.Alive() {
		if err := end(ctx, mv.Worker); err != nil {
			return false, err
		}
	}
	m.giveUp(ctx, why)
	return false, nil
}
