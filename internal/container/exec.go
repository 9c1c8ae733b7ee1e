package container

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/errs"
)

// execution is one more process in a container. It is known for as long as this
// process and its container are.
type execution struct {
	id   string
	c    *live
	opt  container.ExecOptions
	keys string

	mu      sync.Mutex
	started bool
	running bool
	code    *int
	proc    client.Process
	pid     int
}

// NewExec prepares a process.
func (d *Daemon) NewExec(ref string, opt container.ExecOptions) (string, error) {
	c, err := d.find(ref)
	if err != nil {
		return "", err
	}
	if len(opt.Cmd) == 0 {
		return "", errs.Invalidf("No exec command specified")
	}
	if opt.DetachKeys != "" {
		if _, err := parseKeys(opt.DetachKeys); err != nil {
			return "", err
		}
	}
	if opt.Privileged {
		return "", errs.Invalidf("a privileged process in a container is not supported by this engine")
	}
	if err := c.canExec(ref); err != nil {
		return "", err
	}
	e := &execution{id: newID(), c: c, opt: opt, keys: opt.DetachKeys}
	c.mu.Lock()
	c.execs[e.id] = e
	c.mu.Unlock()
	d.mu.Lock()
	d.execs[e.id] = e
	d.mu.Unlock()
	d.tell(c, events.Action(string(events.ActionExecCreate)+": "+strings.Join(opt.Cmd, " ")), "execID", e.id)
	return e.id, nil
}

func (c *live) canExec(ref string) error {
	switch st := c.record().State; {
	case st.Status == container.StatePaused:
		return errs.Conflictf("container %s is paused, unpause the container before exec", ref)
	case !st.Running():
		return errs.Conflictf("container %s is not running", c.id)
	}
	return nil
}

func (d *Daemon) findExec(id string) (*execution, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.execs[id]; e != nil {
		return e, nil
	}
	return nil, errs.NotFoundf("No such exec instance: %s", id)
}

// forgetExecs drops those of a container that is gone.
func (d *Daemon) forgetExecs(c *live) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.execs {
		if e.c == c {
			delete(d.execs, id)
		}
	}
}

// ExecTty tells whether the process has a terminal.
func (d *Daemon) ExecTty(id string) (bool, error) {
	e, err := d.findExec(id)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return false, errs.Conflictf("exec command %s is already running", id)
	}
	return e.opt.Tty, e.c.canExec(e.c.id)
}

// StartExec runs the process. Unless it is detached, it copies both ways until the
// process ends, or the client goes away.
func (d *Daemon) StartExec(ctx context.Context, id string, size *[2]uint, detach bool, in io.Reader, out Sink) error {
	e, err := d.findExec(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	again := e.started
	e.started = true
	e.mu.Unlock()
	if again {
		return errs.Conflictf("Error: Exec command %s has already run", id)
	}
	task, err := e.c.running()
	if err != nil {
		return err
	}
	spec, err := d.execSpec(e, size)
	if err != nil {
		e.end(126)
		return err
	}
	return d.runExec(ctx, e, task, spec, detach, in, out)
}

func (d *Daemon) execSpec(e *execution, size *[2]uint) (*specs.Process, error) {
	ctx := d.work()
	r := e.c.record()
	cc, err := d.engine.Client.LoadContainer(ctx, e.c.id)
	if err != nil {
		return nil, err
	}
	spec, err := cc.Spec(ctx)
	if err != nil {
		return nil, err
	}
	p := spec.Process
	p.Args, p.Terminal, p.ConsoleSize = e.opt.Cmd, e.opt.Tty, nil
	if size == nil {
		size = e.opt.ConsoleSize
	}
	if size != nil && e.opt.Tty && size[0] > 0 {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	cfg := *r.Config
	cfg.Tty, cfg.Env = e.opt.Tty, append(append([]string{}, cfg.Env...), e.opt.Env...)
	links, err := d.linkEnv(r)
	if err != nil {
		return nil, err
	}
	p.Env = environment(&cfg, links)
	if e.opt.WorkingDir != "" {
		p.Cwd = e.opt.WorkingDir
	}
	if e.opt.User != "" {
		c := &containers.Container{ID: e.c.id, Snapshotter: d.engine.Snapshotter, SnapshotKey: e.c.id}
		if err := users(e.opt.User, r.HostConfig.GroupAdd)(ctx, d.engine.Client, c, spec); err != nil {
			return nil, err
		}
	}
	return spec.Process, nil
}

func (d *Daemon) runExec(ctx context.Context, e *execution, task client.Task, spec *specs.Process, detach bool, in io.Reader, out Sink) error {
	dir, err := os.MkdirTemp(d.dir(e.c.id), "exec-")
	if err != nil {
		return err
	}
	defer func() {
		if !detach || err != nil {
			os.RemoveAll(dir)
		}
	}()
	inR, inW := io.Pipe()
	defer inR.Close()
	var stdin io.Reader
	written := make(chan struct{})
	if e.opt.AttachStdin && !detach {
		stdin = input{inR, written}
	}
	creator := cio.NullIO
	if !detach {
		opts := []cio.Opt{cio.WithFIFODir(dir), cio.WithStreams(stdin, sinkWriter{logfile.Stdout, e.opt.AttachStdout, out}, sinkWriter{logfile.Stderr, e.opt.AttachStderr, out})}
		if e.opt.Tty {
			opts = append(opts, cio.WithTerminal)
		}
		creator = cio.NewCreator(opts...)
	}
	proc, err := task.Exec(d.work(), e.id, spec, creator)
	if err != nil {
		e.end(126)
		return err
	}
	exit, err := proc.Wait(d.work())
	if err == nil {
		err = proc.Start(d.work())
	}
	if err != nil {
		code, err := execError(e.opt.Cmd[0], err)
		e.end(code)
		_, derr := proc.Delete(d.work())
		return errors.Join(err, ignoreMissing(derr))
	}
	e.mu.Lock()
	e.proc, e.pid, e.running = proc, int(proc.Pid()), true
	e.mu.Unlock()
	d.tell(e.c, events.Action(string(events.ActionExecStart)+": "+strings.Join(e.opt.Cmd, " ")), "execID", e.id)
	if detach {
		d.group.Go(func() {
			d.finishExec(e, proc, exit)
			os.RemoveAll(dir)
		})
		return nil
	}
	return d.serveExec(ctx, e, proc, exit, in, inW, written)
}

// input is what is written to a process. The shim holds the pipe open itself until it is
// told that all was written (CloseIO). If it let go before it reads from the pipe, what is
// written would be lost, and it would wait for a writer for ever: written is closed when
// the shim reads, and everything is in the pipe.
type input struct {
	io.Reader
	written chan struct{}
}

// WriteTo implements io.WriterTo; containerd copies by it.
func (i input) WriteTo(pipe io.Writer) (int64, error) {
	defer close(i.written)
	if _, err := pipe.Write(nil); err != nil { // waits until there is a reader
		return 0, err
	}
	return io.Copy(pipe, i.Reader)
}

// execError is startError for a process of a container that runs.
func execError(path string, err error) (int, error) {
	code, failed := startError(path, err)
	if code == 128 {
		code = 126
	}
	return code, errs.Invalidf("%s", strings.TrimPrefix(failed.Error(), createFailed))
}

// serveExec is the time that a client sees.
func (d *Daemon) serveExec(ctx context.Context, e *execution, proc client.Process, exit <-chan client.ExitStatus, in io.Reader, inW *io.PipeWriter, written <-chan struct{}) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if e.opt.Tty {
		in = detachable(in, e.keys)
	}
	go func() {
		_, err := io.Copy(inW, in)
		inW.Close()
		if errors.Is(err, errDetached) {
			d.tell(e.c, events.ActionExecDetach, "execID", e.id)
			stop(errDetached)
			return
		}
		if e.opt.AttachStdin {
			select {
			case <-written:
			case <-ctx.Done():
			}
			proc.CloseIO(d.work(), client.WithStdinCloser)
		}
		if err != nil {
			stop(err)
		}
	}()
	done := make(chan struct{})
	d.group.Go(func() {
		defer close(done)
		d.finishExec(e, proc, exit)
	})
	select {
	case <-done:
	case <-ctx.Done(): // the process goes on, as with dockerd
		proc.IO().Cancel()
	}
	return nil
}

// finishExec waits for the end of a process and of its output.
func (d *Daemon) finishExec(e *execution, proc client.Process, exit <-chan client.ExitStatus) {
	code := lost
	select {
	case s := <-exit:
		if n, _, err := s.Result(); err == nil {
			code = int(n)
		}
	case <-d.ctx.Done():
		return
	}
	waited := make(chan struct{})
	go func() {
		proc.IO().Wait()
		close(waited)
	}()
	t := time.NewTimer(2 * time.Second) // a child may hold the pipe
	defer t.Stop()
	select {
	case <-waited:
	case <-t.C:
		proc.IO().Cancel()
	}
	if _, err := proc.Delete(d.work()); ignoreMissing(err) != nil && d.ctx.Err() == nil {
		d.cfg.Log.Warn("removing a process that has ended", "container", e.c.id, "err", err)
	}
	e.end(code)
	d.tell(e.c, events.ActionExecDie, "execID", e.id, "exitCode", strconv.Itoa(code))
}

func (e *execution) end(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running, e.code = false, &code
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	delete(e.c.execs, e.id)
}

// sinkWriter is a stream of a Sink.
type sinkWriter struct {
	s      logfile.Stream
	wanted bool
	out    Sink
}

// Write implements io.Writer.
func (w sinkWriter) Write(p []byte) (int, error) {
	if !w.wanted {
		return len(p), nil
	}
	return len(p), w.out(w.s, time.Now(), p)
}

// ExecInspect is what there is to know of a process.
func (d *Daemon) ExecInspect(id string) (map[string]any, error) {
	e, err := d.findExec(id)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return map[string]any{"ID": e.id, "ContainerID": e.c.id, "Running": e.running, "ExitCode": e.code, "Pid": e.pid, "CanRemove": !e.running && e.started,
		"OpenStdin": e.opt.AttachStdin, "OpenStdout": e.opt.AttachStdout, "OpenStderr": e.opt.AttachStderr, "DetachKeys": e.keys,
		"ProcessConfig": map[string]any{"tty": e.opt.Tty, "entrypoint": e.opt.Cmd[0], "arguments": e.opt.Cmd[1:], "privileged": false, "user": e.opt.User}}, nil
}

// ResizeExec tells a process's terminal its size.
func (d *Daemon) ResizeExec(id string, height, width uint32) error {
	e, err := d.findExec(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	proc, running := e.proc, e.running
	e.mu.Unlock()
	if !running {
		return errs.Conflictf("exec %s is not running", id)
	}
	return proc.Resize(d.work(), width, height)
}
