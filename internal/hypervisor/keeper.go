package hypervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/process"
)

// keeperArgument makes the program run the keeper instead of itself.
const keeperArgument = "__keep-leases"

const (
	keeperTick = 100 * time.Millisecond
	// keeperRest is how many ticks the keeper stays without leases.
	keeperRest = 100
	// keeperEnd is the file that ends the keeper at once.
	keeperEnd = "end"
)

// KeeperMain runs the keeper and exits when the program was started for it by
// Leases. Every program whose code opens Leases calls this first thing in main.
func KeeperMain() {
	if len(os.Args) != 4 || os.Args[1] != keeperArgument {
		return
	}
	k := &keeper{dir: os.Args[2], machines: os.Args[3], held: map[int]string{}, until: map[string]time.Duration{}}
	if err := k.run(); err != nil {
		k.say("it ends: %v", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keeper ends the machines whose lease has run out. It traces their processes, which
// costs them nothing, so that the kernel ends them if the keeper itself is killed.
type keeper struct {
	dir, machines string
	held          map[int]string           // machines by traced process
	until         map[string]time.Duration // what was read last
	ticks, idle   int
	untraced      bool // tracing does not work here, which was said
}

func (k *keeper) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s keeper of leases: %s\n", time.Now().UTC().Format(time.RFC3339Nano), fmt.Sprintf(format, args...))
}

func (k *keeper) run() error {
	runtime.LockOSThread() // who traces is a thread
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	tick := time.NewTicker(keeperTick)
	defer tick.Stop()
	lock, err := k.lock(tick.C)
	if lock == nil || err != nil {
		return err
	}
	defer lock.Close()
	if _, err := lock.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0); err != nil {
		k.say("its pid cannot be written: %v", err) // nobody depends on it
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0) // containers do not let us
	if machines, err := filepath.EvalSymlinks(k.machines); err == nil {
		k.machines = machines // as /proc shows it
	}
	for {
		k.reap()
		if ends := k.look(); ends {
			return nil
		}
		select {
		case <-tick.C:
			k.ticks++
		case <-children:
		}
	}
}

// lock takes the keeper's place; nil: another has it. Whoever looks whether there is
// a keeper has the lock for a moment.
func (k *keeper) lock(tick <-chan time.Time) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(k.dir, keeperLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for range 10 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		<-tick
	}
	if err == unix.EWOULDBLOCK {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

// look reads all leases, and acts. It tells whether the keeper is of no use any more.
func (k *keeper) look() (ends bool) {
	found, err := readLeases(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		k.letGo(nil)
		return true
	}
	if err != nil {
		if k.ticks%100 == 0 {
			k.say("leases cannot be read, the last ones count: %v", err)
		}
		found = k.until
	}
	k.until = found
	k.letGo(found)
	now := LeaseClock()
	for id, until := range found {
		switch late := now - until; {
		case late < 0:
			k.trace(id)
		case late < 3*time.Second || k.ticks%10 == 0:
			k.end(id)
		}
	}
	if k.idle++; len(found) > 0 {
		k.idle = 0
	}
	_, err = os.Lstat(filepath.Join(k.dir, keeperEnd))
	return len(found) == 0 && (err == nil || k.idle > keeperRest)
}

// end ends every process that works in the machine's directory.
func (k *keeper) end(id string) {
	for _, p := range strays(k.machines)[filepath.Join(k.machines, id)] {
		k.say("the lease of server %s has run out: process %d is ended", id, p.PID)
		if err := p.Kill(); err != nil {
			k.say("ending process %d: %v", p.PID, err)
		}
	}
}

// trace binds the machine's process to our own life.
func (k *keeper) trace(id string) {
	raw, err := os.ReadFile(filepath.Join(k.machines, id, stateFile))
	if err != nil {
		return // it was never started
	}
	var st struct {
		Process process.ID `json:"process"`
	}
	if json.Unmarshal(raw, &st) != nil || st.Process.PID == 0 || k.held[st.Process.PID] != "" || !st.Process.Alive() {
		return
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(st.Process.PID), 0, unix.PTRACE_O_EXITKILL, 0, 0)
	switch {
	case errno == 0:
		k.held[st.Process.PID] = id
	case errno != unix.ESRCH && !k.untraced:
		k.untraced = true
		k.say("servers would outlive it, since it cannot trace them: %v", errno)
	}
}

// reap takes note of what traced processes went through: their signals are theirs.
func (k *keeper) reap() {
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, unix.WNOHANG|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		if st.Exited() || st.Signaled() {
			delete(k.held, pid)
			continue
		}
		k.goOn(pid, st)
	}
}

// goOn lets a stopped process go on, or stay stopped when a signal wants that.
func (k *keeper) goOn(pid int, st unix.WaitStatus) {
	sig := st.StopSignal()
	if int(st)>>16 != unix.PTRACE_EVENT_STOP {
		_ = unix.PtraceCont(pid, int(sig)) // it may have been killed meanwhile
		return
	}
	switch sig {
	case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_LISTEN, uintptr(pid), 0, 0, 0, 0)
	default:
		_ = unix.PtraceCont(pid, 0)
	}
}

// letGo lets go of the processes whose machines run under no lease any more.
func (k *keeper) letGo(leases map[string]time.Duration) {
	for pid, id := range k.held {
		if _, ok := leases[id]; ok {
			continue
		}
		if err := unix.PtraceInterrupt(pid); err == nil {
			var st unix.WaitStatus
			for {
				_, err = unix.Wait4(pid, &st, unix.WALL, nil)
				if err != unix.EINTR {
					break
				}
			}
			if err == nil && st.Stopped() {
				sig := 0
				if int(st)>>16 != unix.PTRACE_EVENT_STOP {
					sig = int(st.StopSignal())
				}
				_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(sig), 0, 0)
			}
		}
		delete(k.held, pid)
	}
}
