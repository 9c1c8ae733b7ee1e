package hypervisortest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// refused asks for moves that do not fit.
func (m *movers) refused(ctx context.Context) {
	to := m.receive(ctx, nodeapi.PowerStopped)
	if err := m.here.Send(ctx, serverID, m.departure(to)); !errs.Is(err, errs.Conflict) {
		m.Errorf("sending a machine that runs as it lies: %v", err)
	}
	if err := m.here.ForceMove(ctx, serverID); !errs.Is(err, errs.Conflict) {
		m.Errorf("forcing a move that is not: %v", err)
	}
	must(m.T, m.there.EndMove(ctx, serverID))
	to = m.receive(ctx, nodeapi.PowerRunning)
	to.PSK = append([]byte{to.PSK[0] ^ 1}, to.PSK[1:]...)
	must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
	if got := m.await(ctx); got.Phase != nodeapi.MoveFailed || got.Fault == "" {
		m.Errorf("a wrong key: %+v", got)
	}
	m.undone(ctx)
}

// undone ends the move on both sides, after which the machine is where it was.
func (m *movers) undone(ctx context.Context) {
	m.Helper()
	for range 2 {
		must(m.T, m.here.EndMove(ctx, serverID))
		must(m.T, m.there.EndMove(ctx, serverID))
	}
	if mv, err := m.here.Move(serverID); err != nil || mv.Phase != nodeapi.MoveIdle {
		m.Errorf("after its end the move is %+v, %v", mv, err)
	}
	if st, err := m.here.State(serverID); err != nil || st != nodeapi.PowerRunning {
		m.Errorf("after the end of a move the machine is %s, %v", st, err)
	}
	m.goesOn(ctx)
	must(m.T, m.there.Remove(ctx, serverID))
	left, err := filepath.Glob(filepath.Join(mustDir(m.T, m.here, serverID), "move*"))
	if err != nil || len(left) > 0 {
		m.Errorf("left %v, %v", left, err)
	}
}

// abort ends moves at different moments.
func (m *movers) abort(ctx context.Context) {
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond} {
		to := m.receive(ctx, nodeapi.PowerRunning)
		must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
		sleep(ctx, after)
		if err := m.here.EndMove(ctx, serverID); errs.Is(err, errs.Conflict) {
			m.Logf("after %v it was done", after)
			m.await(ctx)
			m.arrived(ctx, nodeapi.PowerRunning)
			m.goesOn(ctx)
			continue
		} else if err != nil {
			m.Fatal(err)
		}
		m.undone(ctx)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (m *movers) force(ctx context.Context) {
	to := m.receive(ctx, nodeapi.PowerRunning)
	must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
	if err := m.here.ForceMove(ctx, serverID); err != nil && !errs.Is(err, errs.Conflict) {
		m.Fatal(err)
	}
	got := m.await(ctx)
	if got.Phase != nodeapi.MoveDone {
		m.Fatalf("the move ended as %+v", got)
	}
	m.Logf("forced: stood still for %d ms", got.DowntimeMS)
	m.arrived(ctx, nodeapi.PowerRunning)
	m.goesOn(ctx)
}

// moment is when a driver is ended.
type moment struct {
	what string
	is   func() bool
}

// moments are those that matter to a move.
func (m *movers) moments() []moment {
	return []moment{
		{"the begin", func() bool { return true }},
		{"the memory", func() bool { mv, err := m.here.Move(serverID); return err == nil && mv.Phase == nodeapi.MoveMemory }},
		{"the decision", func() bool {
			raw, err := os.ReadFile(filepath.Join(mustDir(m.T, m.here, serverID), "state.json"))
			return err == nil && strings.Contains(string(raw), `"done":true`)
		}},
		{"the word", func() bool {
			raw, err := os.ReadFile(filepath.Join(mustDir(m.T, m.there, serverID), "move-switch"))
			return err == nil && len(raw) > 0 && raw[0] != 0
		}},
	}
}

// crashes ends the driver of either host at each moment. Whatever becomes of the
// move, one host has the machine.
func (m *movers) crashes(ctx context.Context) {
	for _, at := range m.moments() {
		for _, sender := range []bool{true, false} {
			m.crashAt(ctx, at, sender)
		}
	}
}

func (m *movers) crashAt(ctx context.Context, at moment, sender bool) {
	to := m.receive(ctx, nodeapi.PowerRunning)
	must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
	must(m.T, wait.Until(ctx, at.what, time.Millisecond, func(context.Context) (bool, error) {
		mv, err := m.here.Move(serverID)
		return at.is() || mv.Phase == nodeapi.MoveFailed, err
	}))
	begin := time.Now()
	if sender {
		m.here.crash(m.T)
	} else {
		m.there.crash(m.T)
	}
	got := m.await(ctx)
	m.Logf("crash at %s (of the sender: %v): %s %s after %v, %d ms", at.what, sender, got.Phase, got.Fault, time.Since(begin).Round(time.Millisecond), got.DowntimeMS)
	if got.Phase != nodeapi.MoveDone {
		m.undone(ctx)
		return
	}
	m.arrived(ctx, nodeapi.PowerRunning)
	m.goesOn(ctx)
}

// booting moves a guest at moments of its boot.
func (m *movers) booting(ctx context.Context) {
	for _, after := range []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second} {
		must(m.T, m.here.Remove(ctx, serverID))
		must(m.T, m.there.Remove(ctx, serverID))
		m.spec = m.files(m.here)
		m.count, m.up = 0, 0
		must(m.T, m.here.Start(ctx, m.spec, nil))
		sleep(ctx, after)
		m.move(ctx, nodeapi.PowerRunning)
		m.goesOn(ctx) // the prompt may have been before the move
		m.Logf("moved %v after its start", after)
	}
}
