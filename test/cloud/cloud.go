// Package cloud starts real clouds for tests: the built program, with a data
// directory, a port and an external network of its own, removed when the test ends.
package cloud

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"gopkg.in/yaml.v3"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/internal/wait"
)

// Cloud is a running cloud.
type Cloud struct {
	t      testing.TB
	Dir    string
	Listen string
	Public string // CIDR of the external network
	Pid    int
	Quiet  bool     // do not log every request
	Flags  []string // of strata up, besides
}

// Program is the built program.
func Program(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/strata")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the program is not built: make build (%v)", err)
	}
	return path
}

// New starts a cloud and removes every trace of it when the test ends.
func New(t testing.TB) *Cloud {
	t.Helper()
	c := Plan(t)
	c.Up()
	return c
}

// Plan is New without the start.
func Plan(t testing.TB) *Cloud {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a cloud needs root")
	}
	dir, err := os.MkdirTemp("", "strata-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // QEMU's user passes through
		t.Fatal(err)
	}
	c := &Cloud{t: t, Dir: filepath.Join(dir, "data"), Listen: freePort(t), Public: freeNet(t)}
	t.Cleanup(func() {
		if t.Failed() {
			c.tail()
		}
		c.Reset()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *Cloud) tail() {
	raw, err := os.ReadFile(filepath.Join(c.Dir, "strata.log"))
	if err != nil {
		return
	}
	var told []byte
	for line := range bytes.Lines(raw) {
		if !bytes.Contains(line, []byte("level=DEBUG")) {
			told = append(told, line...)
		}
	}
	c.t.Logf("the end of the cloud's log:\n%s", told[max(0, len(told)-8000):])
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// freeNet is a network for tests (RFC 2544) that no other cloud of this machine uses.
func freeNet(t testing.TB) string {
	routes, err := exec.Command("ip", "-4", "route").Output() // a cloud of several hosts is reached by one
	if err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		if candidate := fmt.Sprintf("198.18.%d.", i); !bytes.Contains(routes, []byte(candidate)) {
			return candidate + "0/24"
		}
	}
	t.Fatal("no network is free")
	return ""
}

// Strata runs a command of the program and gives what it printed.
func (c *Cloud) Strata(args ...string) (string, error) {
	cmd := exec.Command(Program(c.t), append([]string{"--data-dir", c.Dir}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("strata %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// Must is Strata for commands that have to succeed.
func (c *Cloud) Must(args ...string) string {
	c.t.Helper()
	out, err := c.Strata(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// Tiny has the cloud make its image tiny, of the guest that is built once per machine.
func (c *Cloud) Tiny() {
	c.t.Helper()
	guesttest.Tiny(c.t).Offer(c.t, c.Dir)
	c.Must("image", "build", guest.KindTiny)
}

// Up starts the cloud, again if need be.
func (c *Cloud) Up() {
	c.t.Helper()
	args := []string{"up", "--detach", "--listen", c.Listen, "--public-cidr", c.Public}
	if !c.Quiet {
		args = append(args, "--verbose")
	}
	c.Must(append(args, c.Flags...)...)
	raw, err := os.ReadFile(filepath.Join(c.Dir, "store", "lock"))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.Pid, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil {
		c.t.Fatal(err)
	}
}

// Name begins the names of the cloud's namespaces and links.
func (c *Cloud) Name() string { return region.Name(c.Dir) }

// Kill ends the control process as a crash would.
func (c *Cloud) Kill() {
	c.t.Helper()
	if err := syscall.Kill(c.Pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	err := wait.Until(ctx, "the killed process to be gone", time.Millisecond, func(context.Context) (bool, error) {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid))
		return err != nil || bytes.Contains(raw, []byte(") Z ")), nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// Reset removes the cloud.
func (c *Cloud) Reset() {
	if out, err := c.Strata("reset", "--yes"); err != nil {
		c.t.Errorf("%v\n%s", err, out)
	}
}

// URL is the root of the APIs.
func (c *Cloud) URL() string { return "http://" + c.Listen }

// Auth gives the auth section of an entry of clouds.yaml.
func (c *Cloud) Auth(cloud string) map[string]string {
	c.t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.Dir, "clouds.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	var f struct {
		Clouds map[string]struct {
			Auth map[string]string `yaml:"auth"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(raw, &f); err != nil {
		c.t.Fatal(err)
	}
	return f.Clouds[cloud].Auth
}

// Provider logs in to an entry of clouds.yaml.
func (c *Cloud) Provider(ctx context.Context, cloud string) *gophercloud.ProviderClient {
	c.t.Helper()
	a := c.Auth(cloud)
	return c.Login(ctx, gophercloud.AuthOptions{IdentityEndpoint: a["auth_url"], Username: a["username"], Password: a["password"],
		DomainName: a["user_domain_name"], TenantName: a["project_name"], AllowReauth: true})
}

// Login logs in.
func (c *Cloud) Login(ctx context.Context, o gophercloud.AuthOptions) *gophercloud.ProviderClient {
	c.t.Helper()
	o.IdentityEndpoint = c.URL() + "/identity/v3"
	p, err := openstack.NewClient(o.IdentityEndpoint)
	if err != nil {
		c.t.Fatal(err)
	}
	p.HTTPClient = http.Client{Timeout: 2 * time.Minute}
	if err := openstack.Authenticate(ctx, p, o); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// Env is the environment of the openstack command for an entry of clouds.yaml.
func (c *Cloud) Env(cloud string) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + c.Dir, "LC_ALL=C.UTF-8", "OS_REGION_NAME=RegionOne", "OS_IDENTITY_API_VERSION=3"}
	for k, v := range c.Auth(cloud) {
		env = append(env, "OS_"+strings.ToUpper(k)+"="+v)
	}
	return env
}
