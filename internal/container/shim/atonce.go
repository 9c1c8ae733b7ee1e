package shim

import (
	"context"
	"os/exec"
	"slices"
	"strings"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	runc "github.com/containerd/go-runc"
	"github.com/containerd/log"
)

// atOnce has runc start a container when it makes it: `runc run --detach` in the place
// of `runc create`, and nothing in that of `runc start`. Nothing happens between the two
// that the process would have to wait for (its namespaces and networks are there
// already), and a start of runc is as long as the rest of our work for a container.
type atOnce struct{ runc.ProcessMonitor }

// Start implements runc.ProcessMonitor.
func (m atOnce) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	return m.begin(cmd, m.ProcessMonitor.Start)
}

// StartLocked implements runc.ProcessMonitor.
func (m atOnce) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) {
	return m.begin(cmd, m.ProcessMonitor.StartLocked)
}

func (m atOnce) begin(cmd *exec.Cmd, start func(*exec.Cmd) (chan runc.Exit, error)) (chan runc.Exit, error) {
	switch i, what := subcommand(cmd.Args); what {
	case "create":
		cmd.Args = slices.Concat(cmd.Args[:i], []string{"run", "--detach"}, cmd.Args[i+1:])
	case "start":
		return nil, nil
	}
	return start(cmd)
}

// Wait implements runc.ProcessMonitor.
func (m atOnce) Wait(cmd *exec.Cmd, ec chan runc.Exit) (int, error) {
	if ec == nil {
		return 0, nil
	}
	return m.ProcessMonitor.Wait(cmd, ec)
}

// subcommand finds what runc is asked for after its general flags, of which all but
// --debug and --systemd-cgroup have a value.
func subcommand(args []string) (i int, what string) {
	for i = 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--debug", a == "--systemd-cgroup", strings.Contains(a, "="):
		case strings.HasPrefix(a, "--"):
			i++
		default:
			return i, a
		}
	}
	return i, ""
}

// begun has containerd's service know that a container that it has made runs. One that
// has ended already is known to have ended.
func (s *service) begun(ctx context.Context, id string) {
	if _, err := s.TTRPCTaskService.Start(ctx, &taskapi.StartRequest{ID: id}); err != nil {
		log.G(ctx).WithError(err).Debug("a container has ended at once")
	}
}

// Start of a container is over with Create.
func (s *service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	if r.ExecID != "" {
		return s.TTRPCTaskService.Start(ctx, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &taskapi.StartResponse{Pid: s.inits[r.ID]}, nil
}
