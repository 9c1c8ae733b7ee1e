package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/wait"
)

// Service is a program that serves a volume and goes on when we end.
type Service struct {
	Tools
	Dir     string // where it works
	Secrets []Secret
	Program string
	Args    []string
	// LogDir is where what it says is kept, in PROGRAM.log.
	LogDir  string
	Cgroups *cgroup.Manager // nil: no limits
	Group   string
	// Ready tells whether it serves.
	Ready func(context.Context) (bool, error)
}

// Start runs the service and waits until it is ready; one that is not when ctx ends is killed.
func (s Service) Start(ctx context.Context) error {
	name := filepath.Base(s.Program)
	path := filepath.Join(s.LogDir, name+".log")
	// The directory may be that of a program without rights, which must not choose the file.
	log, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := s.Daemon(ctx, s.Dir, s.Secrets, log, s.Program, s.Args...)
	if err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { // ends with the daemon, or with us
		cmd.Wait()
		close(exited)
	}()
	if err := s.limit(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	err = wait.Until(ctx, name, 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-exited:
			text, _ := os.ReadFile(path)
			return false, errs.New(errs.Unavailable, "%s did not start: %s", name, strings.TrimSpace(string(text)))
		default:
		}
		return s.Ready(ctx)
	})
	if err == nil {
		return nil
	}
	if kill := cmd.Process.Kill(); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
		err = errors.Join(err, fmt.Errorf("ending it: %w", kill))
	}
	return err
}

func (s Service) limit(pid int) error {
	if s.Cgroups == nil {
		return nil
	}
	if err := s.Cgroups.Ensure(s.Group, cgroup.Limits{MemoryBytes: 512 << 20, CPUShares: 1024, Pids: 128}); err != nil {
		return err
	}
	return s.Cgroups.Add(s.Group, pid)
}
