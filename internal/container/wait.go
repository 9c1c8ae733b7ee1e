package container

import (
	"context"

	"github.com/docker/docker/api/types/container"

	"github.com/strata-cloud/strata/internal/errs"
)

// NewWait begins to wait for what a client wants to know of; wait gives the exit code.
func (d *Daemon) NewWait(ref string, cond container.WaitCondition) (wait func(context.Context) (int, error), err error) {
	c, err := d.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	exit, st := c.exit, c.rec.State
	c.mu.Unlock()
	var on <-chan struct{}
	switch cond {
	case "", container.WaitConditionNotRunning:
		if st.Running() || st.Status == container.StateRestarting {
			on = exit
		}
	case container.WaitConditionNextExit:
		on = exit
	case container.WaitConditionRemoved:
		on = c.removed
	default:
		return nil, errs.Invalidf("invalid condition: %q", cond)
	}
	return func(ctx context.Context) (int, error) {
		if on != nil {
			select {
			case <-on:
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-d.ctx.Done():
				return 0, errs.New(errs.Unavailable, "the engine stops")
			}
		}
		return c.record().State.ExitCode, nil
	}, nil
}
