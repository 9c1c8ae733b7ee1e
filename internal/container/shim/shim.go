// Package shim is the process that stands behind containers, several of them each:
// containerd's shim for runc, which also writes the containers' logs.
//
// It outlives strata. The container's output goes through it into a file (package
// logfile), so that nothing is lost and no container blocks while strata is away,
// and it keeps the exit status until strata has asked for it. It is a program of its
// own, since there are many processes of it and strata's is large.
package shim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task"
	containerdshim "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/fifo"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/container/shims"
)

// Main is the program.
func Main(ctx context.Context) {
	if err := shims.Shed(); err != nil { // it is only slower then
		fmt.Fprintln(os.Stderr, "mounts that are not needed:", err)
	}
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "task",
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   newService,
	})
	containerdshim.RunShim(ctx, manager.NewShimManager("io.containerd.runc.v2"), func(c *containerdshim.Config) {
		c.NoSetupLogger = pooled() // it has a file for that
	})
}

// pooled tells whether the engine started this process, and not containerd for a
// container that is in no sandbox.
func pooled() bool { return os.Getenv(shims.Pooled) != "" }

func newService(ic *plugin.InitContext) (any, error) {
	pp, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	ss, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	inner, err := task.NewTaskService(ic.Context, pp.(containerdshim.Publisher), ss.(shutdown.Service))
	if err != nil {
		return nil, err
	}
	if os.Getenv(shims.Plain) != "" {
		return inner, nil
	}
	runc.Monitor = atOnce{runc.Monitor}
	return &service{TTRPCTaskService: inner, ctx: ic.Context, logs: map[string]output{}, inits: map[string]uint32{}, bundles: map[string]string{}}, nil
}

// service is containerd's task service with logs.
type service struct {
	taskapi.TTRPCTaskService
	ctx context.Context // of the process: logs outlive the request that begins them

	mu      sync.Mutex
	logs    map[string]output
	inits   map[string]uint32 // pids of containers that are not deleted yet
	bundles map[string]string // their directories
	busy    int               // containers that are being made
}

// output is a container's on its way into the log.
type output struct {
	w    *logfile.Writer
	done chan struct{} // closed when all is written
}

// RegisterTTRPC makes the service reachable.
func (s *service) RegisterTTRPC(server *ttrpc.Server) error {
	taskapi.RegisterTTRPCTaskService(server, s)
	return nil
}

// Create begins the log before the container, which then writes into FIFOs that
// only this process knows.
func (s *service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	s.making(1)
	defer s.making(-1)
	path, limits, ok := logfile.ParseURI(r.Stdout)
	if !ok {
		return s.TTRPCTaskService.Create(ctx, r)
	}
	end, err := s.begin(r, path, limits)
	if err != nil {
		return nil, fmt.Errorf("the log of the container: %w", err)
	}
	resp, err := s.TTRPCTaskService.Create(ctx, r)
	if err != nil {
		end()
		return nil, err
	}
	s.mu.Lock()
	s.inits[r.ID], s.bundles[r.ID] = resp.Pid, r.Bundle
	s.mu.Unlock()
	s.begun(ctx, r.ID)
	return resp, nil
}

func (s *service) making(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += n
}

// Shutdown ends the process when there is nothing more to stand behind. containerd
// asks for it after each of the containers, the engine when it has no more use for it.
func (s *service) Shutdown(ctx context.Context, r *taskapi.ShutdownRequest) (*emptypb.Empty, error) {
	if pooled() && r.ID != flag.Lookup("id").Value.String() {
		return &emptypb.Empty{}, nil
	}
	s.mu.Lock()
	needed := s.busy+len(s.inits) > 0
	s.mu.Unlock()
	if needed {
		return &emptypb.Empty{}, nil
	}
	return s.TTRPCTaskService.Shutdown(ctx, r)
}

// Pids names the first process of a container that has ended until it is deleted.
// containerd takes a shim without processes for a leak and ends it when it starts, and
// with it would go the exit status of a container that ended while strata was away.
func (s *service) Pids(ctx context.Context, r *taskapi.PidsRequest) (*taskapi.PidsResponse, error) {
	resp, err := s.TTRPCTaskService.Pids(ctx, r)
	if err == nil && len(resp.Processes) > 0 {
		return resp, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid, ok := s.inits[r.ID]; ok {
		return &taskapi.PidsResponse{Processes: []*tasktypes.ProcessInfo{{Pid: pid}}}, nil
	}
	return resp, err
}

// begin opens the log and what is copied into it; end gives up on it.
func (s *service) begin(r *taskapi.CreateTaskRequest, path string, limits logfile.Limits) (end func(), err error) {
	w, err := logfile.NewWriter(path, limits)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	var pipes []io.ReadCloser
	open := func(name string) (string, error) {
		name = filepath.Join(r.Bundle, name)
		f, err := fifo.OpenFifo(ctx, name, syscall.O_RDONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
		if err == nil {
			pipes = append(pipes, f)
		}
		return name, err
	}
	r.Stdout, err = open("stdout")
	if err == nil && !r.Terminal {
		r.Stderr, err = open("stderr")
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, w.Close())
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.logs[r.ID] = output{w, done}
	s.mu.Unlock()
	go func() {
		defer close(done)
		defer cancel()
		s.copy(w, pipes)
	}()
	return cancel, nil
}

func (s *service) copy(w *logfile.Writer, pipes []io.ReadCloser) {
	var group sync.WaitGroup
	for i, p := range pipes {
		group.Go(func() {
			if err := w.Copy(logfile.Stdout+logfile.Stream(i), p); err != nil {
				log.L.WithError(err).Warn("part of the container's output is not in its log")
			}
			p.Close()
		})
	}
	group.Wait()
	if err := errors.Join(w.Write(logfile.End, nil), w.Close()); err != nil {
		log.L.WithError(err).Warn("ending the log")
	}
}

// drain bounds the wait for output after a container has ended: a process that it
// left elsewhere may hold the pipe for ever.
const drain = 2 * time.Second

// Delete waits for the log, which ends with this process otherwise. A client that reads
// slowly is not waited for: what it has not read yet of a container that has ended it keeps
// open itself.
func (s *service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	s.mu.Lock()
	log, ok := s.logs[r.ID]
	s.mu.Unlock()
	if ok && r.ExecID == "" {
		log.w.Release()
	}
	resp, err := s.TTRPCTaskService.Delete(ctx, r)
	if err != nil || r.ExecID != "" {
		return resp, err
	}
	s.written(r.ID)
	s.mu.Lock()
	bundle := s.bundles[r.ID]
	delete(s.logs, r.ID)
	delete(s.inits, r.ID)
	delete(s.bundles, r.ID)
	s.mu.Unlock()
	if bundle != "" { // without the file it is only looked for once more
		os.WriteFile(filepath.Join(bundle, shims.Deleted), nil, 0o600)
	}
	return resp, nil
}

// Wait tells of the end of a container when its log is written: who reads that until
// the end reads all.
func (s *service) Wait(ctx context.Context, r *taskapi.WaitRequest) (*taskapi.WaitResponse, error) {
	resp, err := s.TTRPCTaskService.Wait(ctx, r)
	if err == nil && r.ExecID == "" {
		s.written(r.ID)
	}
	return resp, err
}

// written waits until a log is complete, for which no one who reads slowly is waited for.
func (s *service) written(id string) {
	s.mu.Lock()
	log, ok := s.logs[id]
	s.mu.Unlock()
	if !ok {
		return
	}
	log.w.Release()
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-log.done:
	case <-t.C:
	}
}
