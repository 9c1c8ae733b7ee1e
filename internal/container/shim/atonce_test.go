package shim

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	runc "github.com/containerd/go-runc"
)

// monitor notes what would be run.
type monitor struct {
	runc.ProcessMonitor
	ran []string
}

func (m *monitor) Start(cmd *exec.Cmd) (chan runc.Exit, error) {
	m.ran = cmd.Args[1:]
	return make(chan runc.Exit), nil
}

func (m *monitor) StartLocked(cmd *exec.Cmd) (chan runc.Exit, error) { return m.Start(cmd) }

func TestAtOnce(t *testing.T) {
	for _, c := range []struct{ asked, want string }{
		{"--root /run/x --log /l.json --log-format json create --bundle /b --pid-file /p create", "--root /run/x --log /l.json --log-format json run --detach --bundle /b --pid-file /p create"},
		{"--root start --debug --systemd-cgroup create --bundle /b c", "--root start --debug --systemd-cgroup run --detach --bundle /b c"},
		{"--root /run/x --rootless=false delete start", "--root /run/x --rootless=false delete start"},
		{"--root /run/x exec --process /p create", "--root /run/x exec --process /p create"},
		{"--root /run/x --log /l start c", ""},
	} {
		m := &monitor{}
		cmd := exec.Command("runc", strings.Fields(c.asked)...)
		ec, err := atOnce{m}.StartLocked(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(m.ran, " "); got != c.want || (ec == nil) != (c.want == "") {
			t.Errorf("%s: ran %q, want %q", c.asked, got, c.want)
		}
		if c.want == "" {
			if code, err := (atOnce{m}).Wait(cmd, ec); code != 0 || err != nil {
				t.Errorf("%s: exit code %d, %v", c.asked, code, err)
			}
		}
	}
	if i, what := subcommand([]string{"runc", "--root"}); what != "" || !slices.Contains([]int{2, 3}, i) {
		t.Errorf("no subcommand: %d %q", i, what)
	}
}
