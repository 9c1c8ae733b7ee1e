package node

import (
	"context"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// feedInterval is how often a guest that stands still for want of room on a disk tries again.
const feedInterval = 10 * time.Second

// feed has guests that a full disk stopped try again, in case there is room by now:
// nothing else tells that somebody made some, here or on the node that has the volume.
func (a *Agent) feed() {
	for _, id := range a.running() {
		if p, err := a.Machines.State(id); err != nil || p != nodeapi.PowerPaused {
			continue
		}
		a.mu.Lock()
		a.starved[id] = true
		a.mu.Unlock()
		a.loop.Add(id)
	}
}

// running lists the instances that are to run.
func (a *Agent) running() (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, i := range a.wanted {
		if i.Power == nodeapi.PowerRunning {
			ids = append(ids, id)
		}
	}
	return ids
}

// retry continues the guest when it is its turn.
func (a *Agent) retry(ctx context.Context, inst *nodeapi.Instance) error {
	a.mu.Lock()
	turn := a.starved[inst.ID]
	delete(a.starved, inst.ID)
	a.mu.Unlock()
	if !turn || inst.Power != nodeapi.PowerRunning {
		return nil
	}
	starved, err := a.Machines.Retry(ctx, inst.ID)
	if err != nil {
		return fmt.Errorf("continuing a guest whose disk was full: %w", err)
	}
	if starved {
		a.Log.Warn("a guest stood still since there is no room for what it writes; it tries again", "server", inst.ID)
	}
	return nil
}
