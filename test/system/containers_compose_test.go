package system

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/strata-cloud/strata/internal/needs"
)

const composeFile = `version: "3.8"
services:
  web:
    image: busybox
    command: sh -c 'while :; do echo served | nc -l -p 80; done'
    ports: ["127.0.0.1:${PORT}:80"]
    networks: [front, back]
    depends_on:
      store: {condition: service_healthy}
    extra_hosts: ["printer:192.0.2.9"]
  store:
    image: busybox
    command: sh -c 'sleep 1; echo up | busybox tee /tmp/state; sleep 600'
    volumes: ["kept:/data"]
    networks:
      back: {aliases: [db]}
    restart: unless-stopped
    healthcheck: {test: ["CMD", "grep", "-q", "up", "/tmp/state"], interval: 200ms, retries: 50}
  tool:
    image: busybox
    command: sleep 600
    profiles: [debug]
    networks: [back]
networks:
  front: {}
  back: {internal: true}
volumes:
  kept: {}
`

// compose is a docker-compose in front of a cloud.
type compose struct {
	*dock
	argv, env []string
	dir       string
}

// debianCompose is Debian's docker-compose out of its packages. They are not installed:
// what they recommend would start a daemon.
func debianCompose(t *testing.T) (argv, env []string) {
	if err := exec.Command("/usr/bin/python3", "-c", "import jsonschema, requests, yaml, distro").Run(); err != nil {
		needs.Missing(t, "docker-compose needs Python's jsonschema, requests, yaml and distro: make deps-test")
	}
	var path []string
	for _, pkg := range []string{"docker-compose", "python3-docker", "python3-dockerpty", "python3-docopt", "python3-dotenv", "python3-texttable", "python3-websocket"} {
		path = append(path, fromDebian(t, pkg, "usr/lib/python3/dist-packages"))
	}
	return []string{"/usr/bin/python3", "-m", "compose"}, []string{"PYTHONPATH=" + strings.Join(path, ":")}
}

// TestContainersCompose runs a project with Debian's docker-compose, and with the one
// that is installed, if any.
func TestContainersCompose(t *testing.T) {
	d := newDock(t)
	eachCompose(t, func(t *testing.T, argv, env []string) {
		testCompose(t, &compose{&dock{t: t, cloud: d.cloud, cli: d.cli}, argv, env, t.TempDir()})
	})
}

// eachCompose runs a test with each docker-compose that there is.
func eachCompose(t *testing.T, run func(t *testing.T, argv, env []string)) {
	t.Run("Debian", func(t *testing.T) {
		argv, env := debianCompose(t)
		run(t, argv, env)
	})
	if path, err := exec.LookPath("docker-compose"); err == nil {
		t.Run("installed", func(t *testing.T) { run(t, []string{path}, nil) })
	}
}

// do runs docker-compose, which has to succeed, and gives what it printed.
func (c *compose) do(args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	argv := append(slices.Clone(c.argv), "-p", "shop", "-f", filepath.Join(c.dir, "compose.yaml"))
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay, cmd.Dir = time.Second, c.dir
	cmd.Env = append([]string{"PATH=" + filepath.Dir(c.cli) + ":/usr/sbin:/usr/bin:/sbin:/bin"}, c.where()...) // docker-compose runs docker for exec and run
	cmd.Env = append(cmd.Env, "HOME="+c.dir)
	cmd.Env = append(cmd.Env, c.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("docker-compose %s: %v: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

// service lists the containers of one that are in a state.
func (c *compose) service(name, state string) []string {
	c.t.Helper()
	return strings.Fields(c.must("ps", "-aq", "--filter", "label=com.docker.compose.project=shop", "--filter", "label=com.docker.compose.service="+name, "--filter", "status="+state))
}

func testCompose(t *testing.T, c *compose) {
	port := freeTCP(t)
	if err := os.WriteFile(filepath.Join(c.dir, "compose.yaml"), []byte(composeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = append(c.env, "PORT="+port)
	t.Cleanup(func() { // of a failed test
		for _, id := range strings.Fields(c.run(nil, "ps", "-aq").out) {
			c.run(nil, "rm", "-f", "-v", id)
		}
	})
	c.do("up", "-d")
	if w, s, tool := c.service("web", "running"), c.service("store", "running"), c.service("tool", "running"); len(w) != 1 || len(s) != 1 || len(tool) != 0 {
		t.Fatalf("running: web %v, store %v, tool %v", w, s, tool)
	}
	if s := c.inspect(c.service("store", "running")[0], ".State.Health.Status"); s != "healthy" {
		t.Errorf("what depends on a healthy service runs while that is %s", s)
	}
	c.eventually("the published port", func() bool { return dial(net.JoinHostPort("127.0.0.1", port)) == "served\n" })
	testComposeNames(t, c)
	if out := c.do("exec", "-T", "web", "grep", "printer", "/etc/hosts"); out != "192.0.2.9\tprinter" {
		t.Errorf("extra_hosts: %q", out)
	}
	if out := c.do("logs"); !strings.Contains(out, "up") {
		t.Errorf("logs: %q", out)
	}
	if out := c.do("ps"); !strings.Contains(out, "web") || !strings.Contains(out, "127.0.0.1:"+port+"->80/tcp") {
		t.Errorf("ps: %q", out)
	}
	if out := c.do("port", "web", "80"); out != "127.0.0.1:"+port {
		t.Errorf("port: %q", out)
	}
	web := c.service("web", "running")[0]
	began := c.inspect(web, ".State.StartedAt")
	c.do("restart", "-t", "0", "web")
	if again := c.service("web", "running"); len(again) != 1 || again[0] != web || c.inspect(web, ".State.StartedAt") == began {
		t.Errorf("restart: %s was %v", web, again)
	}
	if out := c.do("run", "--rm", "-T", "web", "sh", "-c", "busybox nslookup db; echo ran"); !strings.HasSuffix(out, "ran") || !strings.Contains(out, "Name:\tdb") {
		t.Errorf("run: %q", out)
	}
	c.do("up", "-d") // is harmless
	if again := c.service("web", "running"); len(again) != 1 || again[0] != web {
		t.Errorf("a second up replaces %s: %v", web, again)
	}
	c.do("stop", "-t", "0", "store")
	if s := c.service("store", "exited"); len(s) != 1 {
		t.Errorf("stop: %v", s)
	}
	c.do("start", "store")
	c.do("--profile", "debug", "up", "-d")
	if tool := c.service("tool", "running"); len(tool) != 1 {
		t.Errorf("with its profile: %v", tool)
	}
	c.do("--profile", "debug", "down", "-t", "0", "-v")
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q", "--filter", "type=custom"}, {"volume", "ls", "-q"}} {
		if out := c.must(list...); out != "" {
			t.Errorf("down leaves of %v: %s", list, out)
		}
	}
}

// testComposeNames: services are found by name, also several of one.
func testComposeNames(t *testing.T, c *compose) {
	web := c.service("web", "running")[0]
	addrs := func() (out []string) {
		for _, id := range c.service("store", "running") {
			out = append(out, c.addr(id, "shop_back"))
		}
		slices.Sort(out)
		return out
	}
	for range 2 {
		want := strings.Join(addrs(), " ")
		for _, name := range []string{"store", "db"} {
			if got := c.lookUp(web, "udp", name, dns.TypeA); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		c.do("up", "-d", "--scale", "store=3")
	}
	if n := len(addrs()); n != 3 {
		t.Errorf("%d of 3", n)
	}
	c.do("up", "-d", "--scale", "store=1")
	if n := len(addrs()); n != 1 {
		t.Errorf("%d of 1", n)
	}
}
