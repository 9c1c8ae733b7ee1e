package reaper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is the program itself when it is called so.
func TestMain(m *testing.M) {
	if os.Getenv("REAPER") != "" {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // what the first process of a namespace is
		os.Exit(Main(os.Args[1:], os.Stderr))
	}
	os.Exit(m.Run())
}

func run(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command("/proc/self/exe", append([]string{"--"}, args...)...)
	cmd.Env = append(os.Environ(), "REAPER=1")
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		script string
		code   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 137}} {
		cmd, out := run(t, "sh", "-c", c.script)
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: exit code %d: %s", c.script, got, out)
		}
	}
	cmd, out := run(t, "/no/such")
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 127 || !strings.Contains(out.String(), "no such file") {
		t.Errorf("a program that is not there: %d, %s", got, out)
	}
	cmd, out = run(t, "/etc/hostname")
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != 126 {
		t.Errorf("a file that is no program: %d, %s", got, out)
	}
}

// TestOrphans leaves a process whose parent ends, and looks whether it is a zombie
// after its own end.
func TestOrphans(t *testing.T) {
	cmd, out := run(t, "sh", "-c", `(sleep 0.05 & echo $!) > "$0"; p=$(cat "$0"); while kill -0 $p 2>/dev/null; do sleep 0.02; done; echo reaped`, t.TempDir()+"/pid")
	if err := cmd.Run(); err != nil || out.String() != "reaped\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSignals(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 3, syscall.SIGUSR1: 4} {
		cmd, _ := run(t, "sh", "-c", "trap 'exit 3' TERM; trap 'exit 4' USR1; echo ready; while :; do sleep 0.01; done")
		cmd.Stdout = nil
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var line string
		fmt.Fscan(out, &line)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("after %s: exit code %d", sig, got)
		}
	}
}
