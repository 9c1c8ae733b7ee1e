package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/wait"
)

func (a *app) down() *cobra.Command {
	return &cobra.Command{Use: "down", Short: "Stop the cloud; servers keep running", Args: cobra.NoArgs,
		Long: "Stop the cloud. Servers and their networking keep running and are taken over at the next start; strata reset removes them.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pid, ok := a.running()
			if !ok {
				a.progress("Strata is not running in %s", a.dataDir)
				return nil
			}
			return a.stop(cmd.Context(), pid)
		}}
}

// running tells the pid of the process that has the data directory open.
func (a *app) running() (int, bool) {
	f, err := os.OpenFile(a.path("store/lock"), os.O_RDWR, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, false
	}
	raw, err := os.ReadFile(f.Name())
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid, err == nil
}

func (a *app) stop(ctx context.Context, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping pid %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	start := time.Now()
	err := wait.Until(ctx, fmt.Sprintf("pid %d to end", pid), 20*time.Millisecond, func(context.Context) (bool, error) {
		return syscall.Kill(pid, 0) != nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w; it can be ended with kill -9 %d, nothing is lost", err, pid)
	}
	a.progress("Strata is stopped (%s)", time.Since(start).Round(time.Millisecond))
	return nil
}
