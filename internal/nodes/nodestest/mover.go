package nodestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
)

// moving is a node's part in moves: what it sends, waits for, has got and has given away.
type moving struct {
	pool   *nodes.Registry
	sends  map[string]*sending
	waits  map[string]*waiting
	left   map[string]bool // given away; its Instance still says that it is here
	held   bool            // live moves stay in the phase memory
	twice  []string        // instances whose guest was started while another node ran it
	refuse string          // why every move fails
}

type sending struct {
	to   nodeapi.MoveTarget
	live bool
	at   nodeapi.MoveProgress
}

type waiting struct {
	psk     []byte
	live    bool
	arrived bool
	will    nodeapi.Instance
}

func (m *moving) forget(id string) {
	delete(m.sends, id)
	delete(m.waits, id)
	delete(m.left, id)
}

// The sizes of every simulated move.
const (
	memoryBytes = 64 << 20
	diskBytes   = 256 << 20
)

// ReceiveMove waits for the instance.
func (a *Agent) ReceiveMove(_ context.Context, inst nodeapi.Instance, live bool) (*nodeapi.MoveTarget, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return nil, errs.New(errs.Unavailable, "node %s does not answer", a.Info.ID)
	}
	if _, here := a.runs[inst.ID]; here || inst.Node != a.Info.ID {
		return nil, errs.Conflictf("instance %s cannot come to node %s", inst.ID, a.Info.ID)
	}
	w := a.moving.waits[inst.ID]
	if w == nil {
		w = &waiting{psk: make([]byte, 32)}
		if _, err := rand.Read(w.psk); err != nil {
			return nil, err
		}
		if a.moving.waits == nil {
			a.moving.waits = map[string]*waiting{}
		}
		a.moving.waits[inst.ID] = w
	}
	if w.arrived {
		return nil, errs.Conflictf("instance %s has come already", inst.ID)
	}
	w.live, w.will = live, inst
	to := &nodeapi.MoveTarget{User: a.Info.ID, PSK: bytes.Clone(w.psk), Disks: map[string]string{}}
	for _, d := range inst.Disks {
		if d.Role != "volume" {
			to.Disks[d.Name] = a.Info.Addr + ":10809"
		}
	}
	if live {
		to.Memory = a.Info.Addr + ":49152"
	}
	return to, nil
}

// SendMove begins to send an instance. It comes on with each look at the progress.
func (a *Agent) SendMove(_ context.Context, id string, to nodeapi.MoveTarget, live bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, here := a.runs[id]
	runs := i.Power == nodeapi.PowerRunning || i.Power == nodeapi.PowerPaused
	switch s := a.moving.sends[id]; {
	case a.away:
		return errs.New(errs.Unavailable, "node %s does not answer", a.Info.ID)
	case s != nil && s.at.Phase != nodeapi.MoveFailed:
		return nil
	case !here:
		return errs.NotFoundf("instance %s is not on node %s", id, a.Info.ID)
	case live != runs:
		return errs.Conflictf("instance %s is %s", id, i.Power)
	}
	s := &sending{to: to, live: live, at: nodeapi.MoveProgress{Phase: nodeapi.MoveDisks, DiskTotal: diskBytes, DiskRemaining: diskBytes}}
	if live {
		s.at.MemoryTotal, s.at.MemoryRemaining = memoryBytes, memoryBytes
	}
	if a.moving.refuse != "" {
		s.at.Phase, s.at.Fault = nodeapi.MoveFailed, a.moving.refuse
	}
	if a.moving.sends == nil {
		a.moving.sends = map[string]*sending{}
	}
	a.moving.sends[id] = s
	return nil
}

// MoveProgress brings the move on by one phase and tells where it is.
func (a *Agent) MoveProgress(_ context.Context, id string) (nodeapi.MoveProgress, error) {
	a.mu.Lock()
	if a.away {
		a.mu.Unlock()
		return nodeapi.MoveProgress{}, errs.New(errs.Unavailable, "node %s does not answer", a.Info.ID)
	}
	s := a.moving.sends[id]
	if s == nil {
		a.mu.Unlock()
		return nodeapi.MoveProgress{}, nil
	}
	now, over := s.at, false
	switch {
	case s.at.Phase == nodeapi.MoveDisks && s.live:
		s.at.Phase, s.at.DiskProcessed, s.at.DiskRemaining = nodeapi.MoveMemory, diskBytes, 0
		s.at.MemoryProcessed, s.at.MemoryRemaining = memoryBytes/2, memoryBytes/2
	case s.at.Phase == nodeapi.MoveDisks, s.at.Phase == nodeapi.MoveMemory && !a.moving.held:
		over = true
	}
	a.mu.Unlock()
	if over {
		a.handOver(id, s)
	}
	return now, nil
}

// handOver ends the guest here and gives it to the other node, at one moment.
func (a *Agent) handOver(id string, s *sending) {
	c, err := a.moving.pool.Conn(s.to.User)
	peer, ok := c.(*Agent)
	if !ok || peer == a {
		peer = nil
	}
	for _, x := range inOrder(a, peer) { // two may send to each other
		x.mu.Lock()
		defer x.mu.Unlock()
	}
	i, here := a.runs[id]
	if a.moving.sends[id] != s || !here || s.at.Phase == nodeapi.MoveDone || s.at.Phase == nodeapi.MoveFailed {
		return // it ended in the meantime
	}
	why := "node " + s.to.User + " is not reached"
	if err == nil && peer != nil {
		why = peer.arrive(id, s, i)
	}
	if why != "" {
		s.at.Phase, s.at.Fault = nodeapi.MoveFailed, why
		return
	}
	delete(a.runs, id)
	if a.moving.left == nil {
		a.moving.left = map[string]bool{}
	}
	a.moving.left[id] = true
	s.at.Phase, s.at.DiskProcessed, s.at.DiskRemaining, s.at.MemoryRemaining = nodeapi.MoveDone, diskBytes, 0, 0
	if s.live {
		s.at.MemoryProcessed, s.at.DowntimeMS = memoryBytes, 40
	}
}

func inOrder(a, b *Agent) []*Agent {
	switch {
	case b == nil:
		return []*Agent{a}
	case b.Info.ID < a.Info.ID:
		return []*Agent{b, a}
	}
	return []*Agent{a, b}
}

// arrive takes an instance from its sender; both locks are held.
func (a *Agent) arrive(id string, s *sending, i nodeapi.Instance) (refused string) {
	w := a.moving.waits[id]
	switch {
	case a.away || w == nil:
		return "node " + a.Info.ID + " does not wait for it"
	case !bytes.Equal(w.psk, s.to.PSK) || w.live != s.live:
		return "node " + a.Info.ID + " waits for another"
	}
	w.arrived, w.will.Power = true, i.Power
	return ""
}

// takeOver makes what has come the node's own, when its Instance says so.
func (a *Agent) takeOver(i nodeapi.Instance) {
	w := a.moving.waits[i.ID]
	if w == nil {
		return
	}
	delete(a.moving.waits, i.ID)
	if w.arrived {
		a.runs[i.ID] = w.will
	}
}

// removeStrangers removes what is no longer to be here, before anything else.
func (a *Agent) removeStrangers(r *nodes.Registry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.runs {
		if i, err := r.Instances.Get(id); err != nil || i.Node != a.Info.ID {
			delete(a.runs, id)
			delete(a.moving.sends, id)
		}
	}
	for id := range a.moving.left {
		if i, err := r.Instances.Get(id); err != nil || i.Node != a.Info.ID {
			a.moving.forget(id)
		}
	}
}

// ForceMove completes a live move, also one that is held.
func (a *Agent) ForceMove(_ context.Context, id string) error {
	a.mu.Lock()
	s := a.moving.sends[id]
	under := s != nil && s.live && (s.at.Phase == nodeapi.MoveMemory || s.at.Phase == nodeapi.MoveDisks)
	a.mu.Unlock()
	if !under {
		return errs.Conflictf("no live move of instance %s is under way", id)
	}
	a.handOver(id, s)
	return nil
}

// EndMove forgets a move that is not done.
func (a *Agent) EndMove(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return errs.New(errs.Unavailable, "node %s does not answer", a.Info.ID)
	}
	s, w := a.moving.sends[id], a.moving.waits[id]
	if s != nil && s.at.Phase == nodeapi.MoveDone || w != nil && w.arrived {
		return errs.Conflictf("the move of instance %s is done", id)
	}
	delete(a.moving.sends, id)
	delete(a.moving.waits, id)
	return nil
}

// HoldMoves keeps live moves from ending by themselves, as a busy guest does.
func (a *Agent) HoldMoves(held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moving.held = held
}

// RefuseMoves lets each move that begins here fail with the text; "": none.
func (a *Agent) RefuseMoves(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moving.refuse = why
}

// Moves counts what is left of moves here: sent, awaited or given away.
func (a *Agent) Moves() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.moving.sends) + len(a.moving.waits) + len(a.moving.left)
}

// Guest tells whether the instance's guest runs on the node at this moment.
func (a *Agent) Guest(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, here := a.runs[id]
	if w := a.moving.waits[id]; !here && w != nil && w.arrived {
		i, here = w.will, w.live
	}
	return here && i.Power == nodeapi.PowerRunning
}

// lookForTwin notes a guest that is to start here while another node, which is
// there, runs it.
func (a *Agent) lookForTwin(i nodeapi.Instance) {
	if a.Guest(i.ID) || i.Power != nodeapi.PowerRunning || i.Deleted || a.moving.pool == nil {
		return
	}
	for _, n := range a.moving.pool.Infos.All() {
		c, err := a.moving.pool.Conn(n.ID)
		if peer, ok := c.(*Agent); err == nil && ok && peer != a && peer.Guest(i.ID) {
			a.mu.Lock()
			a.moving.twice = append(a.moving.twice, i.ID)
			a.mu.Unlock()
		}
	}
}

// Twice lists the instances that were started here while they ran elsewhere.
func (a *Agent) Twice() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.moving.twice)
}
