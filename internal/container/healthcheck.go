package container

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"

	"github.com/strata-cloud/strata/internal/container/health"
	"github.com/strata-cloud/strata/internal/container/logfile"
)

// firstHealth is the health of a container that has just been started; nil: nothing
// looks after it.
func firstHealth(c *container.Config) *container.Health {
	if health.Command(c) == nil {
		return nil
	}
	return &container.Health{Status: container.Starting}
}

// watchHealth probes a run of a container until it is over.
func (d *Daemon) watchHealth(c *live, exit <-chan struct{}) {
	r := c.record()
	if r.State.Health == nil || health.Command(r.Config) == nil {
		return
	}
	d.group.Go(func() {
		for {
			r := c.record()
			t := time.NewTimer(health.Next(r.Config.Healthcheck, r.State.Health, time.Since(r.State.StartedAt)))
			select {
			case <-t.C:
			case <-exit:
				t.Stop()
				return
			case <-d.ctx.Done():
				t.Stop()
				return
			}
			if c.record().State.Status != container.StateRunning {
				continue // it is paused, or ends just now
			}
			d.bookHealth(c, d.probe(c, exit), exit)
		}
	})
}

// bookHealth keeps a result. Only a change of the status is written down at once.
func (d *Daemon) bookHealth(c *live, res container.HealthcheckResult, exit <-chan struct{}) {
	select {
	case <-exit:
		return // of a run that is over
	default:
	}
	c.mu.Lock()
	old := c.rec.State.Health
	if old == nil {
		c.mu.Unlock()
		return
	}
	next := health.Book(c.rec.Config.Healthcheck, old, res, c.rec.State.StartedAt)
	c.rec.State.Health = next
	c.mu.Unlock()
	if next.Status == old.Status {
		return
	}
	if err := d.change(c, func(*Record) {}); err != nil {
		d.cfg.Log.Error("keeping the health of a container", "container", c.id, "err", err)
	}
	d.tell(c, events.Action("health_status: "+string(next.Status)))
}

// mostOutput is what is kept of what a probe says.
const mostOutput = 4096

// probe runs the health check once.
func (d *Daemon) probe(c *live, exit <-chan struct{}) container.HealthcheckResult {
	r := c.record()
	res := container.HealthcheckResult{Start: time.Now(), ExitCode: -1}
	limit := health.Timeout(r.Config.Healthcheck)
	ctx, cancel := context.WithTimeout(d.ctx, limit)
	defer cancel()
	go func() {
		select {
		case <-exit:
			cancel()
		case <-ctx.Done():
		}
	}()
	var mu sync.Mutex // a probe that is given up on may still write
	var out bytes.Buffer
	id, err := d.NewExec(c.id, container.ExecOptions{Cmd: health.Command(r.Config), AttachStdout: true, AttachStderr: true})
	if err == nil {
		err = d.StartExec(ctx, id, nil, false, bytes.NewReader(nil), func(_ logfile.Stream, _ time.Time, chunk []byte) error {
			mu.Lock()
			defer mu.Unlock()
			out.Write(chunk[:min(len(chunk), mostOutput-min(out.Len(), mostOutput))])
			return nil
		})
	}
	res.End = time.Now()
	mu.Lock()
	res.Output = out.String()
	mu.Unlock()
	switch code := d.execCode(id); {
	case err != nil:
		res.Output = err.Error()
	case code != nil:
		res.ExitCode = *code
	case ctx.Err() != nil:
		res.Output = fmt.Sprintf("Health check exceeded timeout (%s)", limit)
		d.killExec(id)
	}
	d.forgetExec(id)
	return res
}

// execCode is the exit code of a process that has ended.
func (d *Daemon) execCode(id string) *int {
	e, err := d.findExec(id)
	if err != nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.code
}

func (d *Daemon) killExec(id string) {
	e, err := d.findExec(id)
	if err != nil {
		return
	}
	e.mu.Lock()
	proc := e.proc
	e.mu.Unlock()
	if proc == nil {
		return
	}
	if err := ignoreMissing(proc.Kill(d.work(), syscall.SIGKILL)); err != nil {
		d.cfg.Log.Warn("ending a probe that takes too long", "container", e.c.id, "err", err)
	}
}

// forgetExec drops a process that no client knows of.
func (d *Daemon) forgetExec(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.execs, id)
}
