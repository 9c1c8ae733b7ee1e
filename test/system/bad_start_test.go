package system

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/test/cloud"
)

// entries lists what is in a directory that may be absent.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// run runs a program that must fail, and gives its exit status and what it said.
func run(t *testing.T, env []string, name string, args ...string) (status int, said string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &exit):
		return exit.ExitCode(), out.String()
	case err != nil:
		t.Fatal(err)
	}
	t.Errorf("%s %v succeeded: %s", name, args, &out)
	return 0, out.String()
}

// TestBadStart starts clouds that cannot start: each says what to do, and the
// machine and the data directory stay as they were.
func TestBadStart(t *testing.T) {
	c := cloud.Plan(t)
	busy := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer busy.Close()
	file := filepath.Join(filepath.Dir(c.Dir), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name   string
		args   []string
		env    []string
		status int
		want   string
	}{
		{"listen without a port", []string{"--listen", "garbage"}, nil, 2, "--listen garbage is not HOST:PORT"},
		{"listen on a port too large", []string{"--listen", "127.0.0.1:99999"}, nil, 2, "port of 1 to 65535"},
		{"listen on port 0", []string{"--listen", "127.0.0.1:0"}, nil, 2, "port of 1 to 65535"},
		{"listen on another machine's address", []string{"--listen", "203.0.113.9:5000"}, nil, 1, "no link of this machine has that address"},
		{"listen on a name that is none", []string{"--listen", "no-such-host.invalid:5000"}, nil, 1, "--listen"},
		{"busy port", []string{"--listen", busy.Addr().String()}, nil, 1, "is in use by another program: stop it or choose another"},
		{"public network garbage", []string{"--public-cidr", "garbage"}, nil, 2, "--public-cidr garbage is not an IPv4 network"},
		{"public network too small", []string{"--public-cidr", "198.51.100.0/30"}, nil, 2, "at least 8 addresses"},
		{"public network with host bits", []string{"--public-cidr", "198.51.100.7/24"}, nil, 2, "is not an IPv4 network"},
		{"public network of IPv6", []string{"--public-cidr", "2001:db8::/64"}, nil, 2, "is not an IPv4 network"},
		{"public network of this machine", []string{"--public-cidr", "127.0.0.0/24"}, nil, 1, "overlaps 127.0.0.1/8 of lo on this machine: choose"},
		{"public network around this machine", []string{"--public-cidr", "126.0.0.0/7"}, nil, 1, "overlaps 127.0.0.1/8 of lo"},
		{"no QEMU", nil, []string{"PATH=" + t.TempDir()}, 1, "apt-get install"},
		{"no such flag", []string{"--color"}, nil, 2, "unknown flag: --color"},
		{"an argument", []string{"now"}, nil, 2, "unknown"},
		{"data directory below a file", []string{"--data-dir", filepath.Join(file, "data")}, nil, 1, "choose another with --data-dir"},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := look(t, c.Name())
			for _, mode := range []string{"--detach", "--detach=false"} {
				args := append([]string{"up", mode, "--data-dir", c.Dir, "--listen", c.Listen, "--public-cidr", c.Public}, x.args...)
				status, said := run(t, x.env, cloud.Program(t), args...)
				if status != x.status || !strings.Contains(said, x.want) || strings.Count(strings.TrimSpace(said), "\n") > 0 {
					t.Errorf("%s: exit status %d, want %d; it said %q, want one line with %q", mode, status, x.status, said, x.want)
				}
			}
			if left := entries(t, c.Dir); left != nil {
				t.Errorf("files are left: %v", left)
			}
			if diff := cmp.Diff(before, look(t, c.Name())); diff != "" {
				t.Errorf("the machine is not as before (-before +after):\n%s", diff)
			}
		})
	}
}

// TestNotRoot starts a cloud as nobody.
func TestNotRoot(t *testing.T) {
	dir := must[string](t)(os.MkdirTemp("", "strata-test-"))
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "strata")
	raw := must[[]byte](t)(os.ReadFile(cloud.Program(t)))
	if err := errors.Join(os.WriteFile(program, raw, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"up"}, {"up", "--detach"}, {"reset", "--yes"}} {
		full := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", program, "--data-dir", filepath.Join(dir, "data")}, args...)
		status, said := run(t, []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, "setpriv", full...)
		if status != 1 || !strings.Contains(said, "needs root") || !strings.Contains(said, "try sudo strata") {
			t.Errorf("%v: exit status %d, it said %q", args, status, said)
		}
	}
	if left := entries(t, dir); len(left) != 1 {
		t.Errorf("files are left: %v", left)
	}
}

// TestSecondStart starts a cloud whose data directory is in use, and with
// settings other than those of its first start.
func TestSecondStart(t *testing.T) {
	c := cloud.New(t)
	other := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	elsewhere := other.Addr().String()
	other.Close()
	up := func(listen string, more ...string) []string {
		return append([]string{"up", "--data-dir", c.Dir, "--listen", listen, "--public-cidr", c.Public}, more...)
	}
	for _, x := range []struct {
		name string
		args []string
		want string
	}{
		{"in the foreground, same port", up(c.Listen), "runs already"},
		{"in the foreground, other port", up(elsewhere), "runs already"},
		{"detached, other port", up(elsewhere, "--detach"), "at " + c.URL() + ", not at http://" + elsewhere},
	} {
		if status, said := run(t, nil, cloud.Program(t), x.args...); status != 1 || !strings.Contains(said, x.want) || !strings.Contains(said, "strata down") {
			t.Errorf("%s: exit status %d, it said %q", x.name, status, said)
		}
	}
	if out, err := exec.Command(cloud.Program(t), up(c.Listen, "--detach")...).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("running already")) {
		t.Errorf("detached, same port: %v %s", err, out)
	}
	if err := syscall.Kill(c.Pid, 0); err != nil {
		t.Fatalf("the first process: %v", err)
	}
	c.Provider(t.Context(), "strata") // and it answers
	c.Must("down")
	args := []string{"up", "--detach", "--data-dir", c.Dir, "--listen", c.Listen, "--public-cidr", "198.51.100.0/24"}
	if status, said := run(t, nil, cloud.Program(t), args...); status != 1 || !strings.Contains(said, "start it with --public-cidr "+c.Public) {
		t.Errorf("another external network: exit status %d, it said %q", status, said)
	}
	c.Up()
}
