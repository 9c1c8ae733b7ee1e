package hypervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/process"
	"github.com/strata-cloud/strata/internal/wait"
)

// strays finds the processes that work in a directory below root, by directory. A
// machine's process works in the machine's own directory from its very first
// instant, so that one is found even if we died before we noted that we had
// started it, or after its directory was removed.
func strays(root string) map[string][]process.ID {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil // the pattern is right
	}
	found := map[string][]process.ID{}
	for _, l := range links {
		dir, err := os.Readlink(l)
		dir = strings.TrimSuffix(dir, " (deleted)")
		if err != nil || filepath.Dir(dir) != root {
			continue // ended meanwhile, or none of ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(l)))
		if err != nil {
			continue
		}
		if p, err := process.Identify(pid); err == nil && p.Alive() {
			found[dir] = append(found[dir], p)
		}
	}
	return found
}

// endStrays ends every process that works in a machine's directory without being
// its known process: what a crash in the middle of a start left behind.
func (d *QEMU) endStrays(ctx context.Context) error {
	var errs []error
	for dir, list := range strays(d.Config.Dir) {
		m := d.machines[filepath.Base(dir)]
		for _, p := range list {
			if m != nil && m.running() && m.process == p {
				continue
			}
			if m != nil && m.moving() != nil && m.moving().Worker == p {
				continue
			}
			d.Log.Info("ending a process that a crash left", "server", filepath.Base(dir), "pid", p.PID)
			errs = append(errs, end(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// endAll ends every process that works in the machine's directory.
func (m *machine) endAll(ctx context.Context) error {
	var errs []error
	for _, p := range strays(m.d.Config.Dir)[m.dir] {
		errs = append(errs, end(ctx, p))
	}
	return errors.Join(errs...)
}

// pollExit is how often the end of a process that is not our child is looked for.
const pollExit = 5 * time.Millisecond

// end kills the process and waits for its end.
func end(ctx context.Context, p process.ID) error {
	if err := p.Kill(); err != nil {
		return err
	}
	return wait.Until(ctx, "process "+strconv.Itoa(p.PID)+" to end", pollExit, func(context.Context) (bool, error) { return !p.Alive(), nil })
}
