package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/wait"
)

// Program is one to keep running. Two programs of a keeper differ in their names.
type Program struct {
	Name string
	Args []string // the first is the path of the executable
	Env  []string // all of the environment
}

// Keeper starts programs that go on when ours ends, and finds them again. There is no
// record of them that could be wrong: a program works in a directory of its own, DIR/NAME,
// and with the arguments that it was started with.
type Keeper struct {
	Dir string
	// NetNS is the network namespace that programs start in; nil: ours.
	NetNS *netns.NS
}

// stopGrace is how long a program has to end by itself.
const stopGrace = 20 * time.Second

// logFile has what a program prints, in its directory; maxLog bounds it, in bytes, as
// often as the program is started.
const (
	logFile = "log"
	maxLog  = 16 << 20
)

// Ensure has the program run with its arguments and environment, and tells whether it had
// to be started. One that runs with others is replaced.
func (k *Keeper) Ensure(ctx context.Context, p Program) (started bool, err error) {
	if k.Current(p) {
		return false, nil
	}
	if err := k.Stop(ctx, p.Name); err != nil {
		return false, err
	}
	return true, k.start(p)
}

// Current tells whether the programs run, and with their arguments and environment.
func (k *Keeper) Current(programs ...Program) bool {
	all := k.all()
	for _, p := range programs {
		if !slices.ContainsFunc(all[p.Name], func(id ID) bool { return id.has("cmdline", p.Args) && id.has("environ", p.Env) }) {
			return false
		}
	}
	return true
}

// Running tells whether a program of the name runs, with whatever arguments.
func (k *Keeper) Running(name string) bool { return len(k.find(name)) > 0 }

// Stop ends the program, if it runs.
func (k *Keeper) Stop(ctx context.Context, name string) error {
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		all := k.find(name)
		if len(all) == 0 {
			return nil
		}
		for _, id := range all {
			if err := id.Signal(s); err != nil {
				return err
			}
		}
		grace, cancel := context.WithTimeout(ctx, stopGrace)
		err := wait.Until(grace, name+" to end", 20*time.Millisecond, func(context.Context) (bool, error) { return !k.Running(name), nil })
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not end", name)
}

// LastWords is the end of what the program printed.
func (k *Keeper) LastWords(name string) string {
	raw, err := os.ReadFile(filepath.Join(k.Dir, name, logFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw[max(0, len(raw)-500):]))
}

func (k *Keeper) start(p Program) error {
	dir := filepath.Join(k.Dir, p.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if i, err := os.Stat(filepath.Join(dir, logFile)); err == nil && i.Size() > maxLog {
		mode |= os.O_TRUNC
	}
	log, err := os.OpenFile(filepath.Join(dir, logFile), mode, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append([]string{}, p.Env...) // nil would be ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	begin := cmd.Start
	if k.NetNS != nil {
		begin = func() error { return k.NetNS.Do(cmd.Start) }
	}
	if err := begin(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	go func() { _ = cmd.Wait() }() // how it ended is for Ensure to mend
	return nil
}

// find lists the processes that work for the name: ours, not what they started in turn.
func (k *Keeper) find(name string) []ID { return k.all()[name] }

// all is find of all names. It reads one link of each process of the machine.
func (k *Keeper) all() map[string][]ID {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil // whoever has none has not started anything
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil
	}
	ours, out := filepath.Clean(k.Dir), map[string][]ID{}
	for _, pid := range names {
		n, err := strconv.Atoi(pid)
		if err != nil {
			continue
		}
		at, err := os.Readlink("/proc/" + pid + "/cwd")
		if err != nil {
			continue // it has ended
		}
		dir, name := filepath.Split(strings.TrimSuffix(at, " (deleted)"))
		if filepath.Clean(dir) != ours {
			continue
		}
		if id, err := Identify(n); err == nil && id.Alive() && id.leads() {
			out[name] = append(out[name], id)
		}
	}
	return out
}

// leads tells whether the process leads its session, as those do that a keeper started.
func (p ID) leads() bool {
	sid, err := unix.Getsid(p.PID)
	return err == nil && sid == p.PID
}

// has tells whether a list of the process, such as its command line, is this.
func (p ID) has(file string, want []string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, file))
	if err != nil {
		return false
	}
	got := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	return slices.Equal(got, want) || len(raw) == 0 && len(want) == 0
}
