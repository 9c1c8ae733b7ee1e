package container

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/errs"
)

// Sink takes chunks of output.
type Sink func(s logfile.Stream, at time.Time, chunk []byte) error

// AttachOptions are what a client attaches to.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool // what there was before, too
	Stream                bool
	DetachKeys            string
}

// Attach is a client that is about to see a container's streams.
type Attach struct {
	d    *Daemon
	c    *live
	opt  AttachOptions
	r    *logfile.Reader
	exit <-chan struct{}
	Tty  bool
}

// NewAttach takes the client's place in the log: what comes from now on is its.
func (d *Daemon) NewAttach(ref string, opt AttachOptions) (*Attach, error) {
	c, err := d.find(ref)
	if err != nil {
		return nil, err
	}
	rec := c.record()
	switch rec.State.Status {
	case container.StatePaused:
		return nil, errs.Conflictf("container %s is paused, unpause the container before attach", ref)
	case container.StateRestarting:
		return nil, errs.Conflictf("container %s is restarting, wait until the container is running", ref)
	}
	if opt.DetachKeys != "" {
		if _, err := parseKeys(opt.DetachKeys); err != nil {
			return nil, err
		}
	}
	a := &Attach{d: d, c: c, opt: opt, Tty: rec.Config.Tty}
	c.mu.Lock()
	a.exit = c.exit
	c.mu.Unlock()
	open := logfile.OpenEnd
	if opt.Logs {
		open = logfile.Open
	}
	if a.r, err = open(d.logPath(c.id)); err != nil {
		return nil, err
	}
	if err := a.hold(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	d.tell(c, events.ActionAttach)
	return a, nil
}

// hold has the container wait for a client that wants all of its output, as dockerd does
// once its buffer is full.
func (a *Attach) hold() error {
	if !a.opt.Stream || !a.opt.Stdout && !a.opt.Stderr {
		return nil
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if a.c.readers == nil {
		a.c.readers = map[*Attach]bool{}
	}
	a.c.readers[a] = true
	return a.r.Hold()
}

// pinReaders keeps the log for the clients who have not read all of it at the end of a run:
// it may be removed with the container.
func (c *live) pinReaders() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []error
	for a := range c.readers {
		all = append(all, a.r.Pin())
	}
	return errors.Join(all...)
}

// Run copies both ways until the end of the run, or until the client goes away. in
// ends with io.EOF when the client has sent all. out is called from one goroutine.
func (a *Attach) Run(ctx context.Context, in io.Reader, out Sink) error {
	defer a.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if a.opt.Stdin {
		go a.input(ctx, in, stop)
	} else {
		go func() { // a client that closes its connection is gone; half-closing is no reason to leave
			if _, err := io.Copy(io.Discard, in); err != nil {
				stop(err)
			}
		}()
	}
	if !a.opt.Stream {
		return drain(a.r, a.wanted(out))
	}
	return a.d.tail(ctx, a.r, a.exit, a.wanted(out))
}

func (a *Attach) wanted(out Sink) Sink {
	return func(s logfile.Stream, at time.Time, chunk []byte) error {
		if s == logfile.Stdout && a.opt.Stdout || s == logfile.Stderr && a.opt.Stderr {
			return out(s, at, chunk)
		}
		return nil
	}
}

// errDetached is why an attachment ends whose user has typed the keys for it.
var errDetached = errors.New("detached")

// input copies what the client types. With its end a container that was made so
// has no more input.
func (a *Attach) input(ctx context.Context, in io.Reader, stop context.CancelCauseFunc) {
	rec := a.c.record()
	if !rec.Config.OpenStdin {
		io.Copy(io.Discard, in)
		return
	}
	f, err := a.d.openStdin(ctx, a.c)
	if err != nil {
		return
	}
	defer f.Close()
	if rec.Config.Tty {
		in = detachable(in, a.opt.DetachKeys)
	}
	_, err = io.Copy(f, in)
	if errors.Is(err, errDetached) {
		a.d.tell(a.c, events.ActionDetach)
		stop(errDetached)
		return
	}
	if rec.Config.StdinOnce && !rec.Config.Tty {
		if task, err := a.c.running(); err == nil {
			task.CloseIO(a.d.work(), client.WithStdinCloser)
		}
	}
}

// openStdin opens the container's input as soon as it runs.
func (d *Daemon) openStdin(ctx context.Context, c *live) (*os.File, error) {
	for {
		c.mu.Lock()
		begun, runs := c.begun, c.task != nil
		c.mu.Unlock()
		if runs {
			return os.OpenFile(d.stdinPath(c.id), os.O_WRONLY|unix.O_NONBLOCK, 0)
		}
		select {
		case <-begun:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tail gives what a log has and gets until the run is over, and all that was
// written until then.
func (d *Daemon) tail(ctx context.Context, r *logfile.Reader, exit <-chan struct{}, out Sink) error {
	follow, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	over := errors.New("the run is over")
	go func() {
		select {
		case <-exit:
			stop(over)
		case <-d.ctx.Done():
			stop(d.ctx.Err())
		case <-follow.Done():
		}
	}()
	err := r.Follow(follow, func(rec logfile.Record) (bool, error) { return false, out(rec.Stream, rec.Time, rec.Chunk) })
	if !errors.Is(err, over) {
		if errors.Is(err, errDetached) {
			return nil
		}
		return err
	}
	return drain(r, out)
}

// drain gives what a log has now.
func drain(r *logfile.Reader, out Sink) error {
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = out(rec.Stream, rec.Time, rec.Chunk)
		}
		if err != nil {
			return err
		}
	}
}

// Resize tells a container's terminal its size.
func (d *Daemon) Resize(ref string, height, width uint32) error {
	c, err := d.find(ref)
	if err != nil {
		return err
	}
	task, err := c.running()
	if err != nil {
		return err
	}
	if err := task.Resize(d.work(), width, height); err != nil {
		return err
	}
	d.tell(c, events.ActionResize)
	return nil
}

// parseKeys reads such as ctrl-p,ctrl-q.
func parseKeys(s string) ([]byte, error) {
	var out []byte
	for k := range strings.SplitSeq(s, ",") {
		rest, ctrl := strings.CutPrefix(k, "ctrl-")
		switch {
		case ctrl && len(rest) == 1 && strings.ContainsAny(rest, "abcdefghijklmnopqrstuvwxyz@[\\]^_"):
			out = append(out, strings.ToUpper(rest)[0]&0x1f)
		case !ctrl && len(k) == 1:
			out = append(out, k[0])
		default:
			return nil, errs.Invalidf("Invalid detach keys provided: %q", s)
		}
	}
	return out, nil
}

// detacher ends with errDetached where the keys are typed.
type detacher struct {
	in   io.Reader
	keys []byte
	seen int // of the keys, held back
	rest []byte
}

func detachable(in io.Reader, keys string) io.Reader {
	if keys == "" {
		keys = "ctrl-p,ctrl-q"
	}
	k, err := parseKeys(keys)
	if err != nil || len(k) == 0 {
		return in
	}
	return &detacher{in: in, keys: k}
}

// Read implements io.Reader.
func (r *detacher) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		buf := make([]byte, max(len(p), 1))
		n, err := r.in.Read(buf)
		for _, b := range buf[:n] {
			if b == r.keys[r.seen] {
				if r.seen++; r.seen == len(r.keys) {
					return 0, errDetached
				}
				continue
			}
			r.rest = append(r.rest, r.keys[:r.seen]...)
			if r.seen = 0; b == r.keys[0] {
				r.seen = 1
				continue
			}
			r.rest = append(r.rest, b)
		}
		if err != nil && len(r.rest) == 0 {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close gives the place in the log up, instead of Run.
func (a *Attach) Close() error {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	delete(a.c.readers, a)
	return a.r.Close()
}
