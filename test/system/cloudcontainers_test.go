package system

import (
	"bytes"
	"context"
	"encoding/json"

	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// dockPool is a pool with docker in front of it.
type dockPool struct {
	*pool
	cli string
}

// tenant is docker with a project's application credential.
type tenant struct {
	*dockPool
	config string // directory of docker's configuration
}

func newDockPool(t *testing.T, n, control int) *dockPool {
	t.Helper()
	for _, program := range []string{"runc", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			needs.Missing(t, "containers of the cloud need %s: make deps", program)
		}
	}
	return &dockPool{newPoolOf(t, n, control, 0), dockerCLI(t)}
}

// tenant makes a context for an entry of clouds.yaml by way of a control member.
func (f *dockPool) tenant(h *hosts.Host, cloud string) *tenant {
	f.Helper()
	dir := filepath.Join(f.TempDir(), "docker")
	f.strata(h, "containers", "context", "--cloud", cloud, "--config", dir)
	return &tenant{f, dir}
}

// in is the tenant in a subtest.
func (x *tenant) in(t *testing.T) *tenant {
	p := *x.pool
	p.T = t
	return &tenant{&dockPool{&p, x.cli}, x.config}
}

// push puts the image busybox into the registry, under a name.
func (f *dockPool) push(h *hosts.Host, name string) {
	f.Helper()
	d := &dock{t: f.T, cloud: &cloud.Cloud{Dir: h.DataDir}, cli: f.cli}
	d.importImage()
	archive := filepath.Join(f.TempDir(), "image.tar")
	d.must("save", "-o", archive, "busybox")
	skopeo{t: f.T}.must(append(f.registry(h, "dest"), "docker-archive:"+archive, "docker://"+h.Addr+":5000/"+name)...)
}

// command prepares docker --context strata.
func (x *tenant) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	x.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, x.cli, append([]string{"--context", "strata"}, args...)...)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + x.config, "DOCKER_CONFIG=" + x.config}
	return cmd
}

func (x *tenant) run(stdin string, args ...string) result {
	x.Helper()
	cmd := x.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		x.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (x *tenant) must(args ...string) string {
	x.Helper()
	r := x.run("", args...)
	if r.code != 0 {
		x.Fatalf("docker %s: exit %d: %s", strings.Join(args, " "), r.code, r.errs)
	}
	return strings.TrimSpace(r.out)
}

// refused runs what must fail, and say so, in either client's capitals.
func (x *tenant) refused(says string, args ...string) {
	x.Helper()
	r := x.run("", args...)
	if failed := r.code != 0 || args[0] == "rm"; !failed || !strings.Contains(strings.ToLower(r.errs), strings.ToLower(says)) { // rm -f of what is not there is no failure
		x.Errorf("docker %s: exit %d, %q; want an error that says %q", strings.Join(args, " "), r.code, r.errs, says)
	}
}

// node is the host that a container is on.
func (x *tenant) node(name string) *hosts.Host {
	x.Helper()
	on := x.must("inspect", "--format", `{{index .Config.Labels "strata.node"}}`, name)
	i := slices.IndexFunc(x.All, func(h *hosts.Host) bool { return h.Name == on })
	if i < 0 {
		x.Fatalf("container %s is on %q", name, on)
	}
	return x.All[i]
}

func (x *tenant) address(name, network string) string {
	x.Helper()
	return x.must("inspect", "--format", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name)
}

// eventually repeats a command until it goes well.
func (x *tenant) eventually(args ...string) string {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	var last result
	err := wait.Until(ctx, "docker "+strings.Join(args, " "), 200*time.Millisecond, func(context.Context) (bool, error) {
		last = x.run("", args...)
		return last.code == 0, nil
	})
	if err != nil {
		x.Fatalf("%v: exit %d: %s%s", err, last.code, last.out, last.errs)
	}
	return last.out
}

// TestCloudContainers runs containers of two projects on two hosts with an unmodified
// docker.
func TestCloudContainers(t *testing.T) {
	f := newDockPool(t, 2, 1)
	first := f.All[0]
	f.push(first, "demo/busybox:latest")
	demo, admin := f.tenant(first, "strata-demo"), f.tenant(first, "strata")

	t.Run("run", func(t *testing.T) { demo.in(t).runs() })
	t.Run("streams", func(t *testing.T) { demo.in(t).streams() })
	t.Run("projects", func(t *testing.T) { apart(demo.in(t), admin.in(t)) })
	t.Run("networks", func(t *testing.T) { demo.in(t).connects() })
	t.Run("floating", func(t *testing.T) { demo.in(t).floats() })
	t.Run("away", func(t *testing.T) { demo.in(t).away() })
}

// runs is the shortest way: create, run, logs, remove, on both hosts.
func (x *tenant) runs() {
	t := x.T
	if out := x.must("run", "--rm", "busybox", "echo", "hello"); out != "hello" {
		t.Errorf("run printed %q", out)
	}
	on := map[string]bool{}
	names := []string{"one", "two", "three", "four"}
	for _, name := range names {
		x.must("run", "-d", "--name", name, "--memory", "2g", "--restart", "unless-stopped", "busybox", "sh", "-c", "echo I am "+name+"; exec sleep 1000")
		on[x.node(name).Name] = true
	}
	if len(on) != 2 {
		t.Errorf("four containers are on %v", on)
	}
	for _, name := range names {
		if out := x.eventually("logs", name); strings.TrimSpace(out) != "I am "+name {
			t.Errorf("the log of %s: %q", name, out)
		}
	}
	if have := strings.Fields(x.must("ps", "--format", "{{.Names}}")); len(have) != 4 {
		t.Errorf("docker ps: %v", have)
	}
	x.refused("already in use", "run", "--name", "one", "busybox", "true")
	x.must("rename", "two", "zwei")
	x.must("stop", "-t", "0", "zwei")
	if have := x.must("ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"); have != "zwei" {
		t.Errorf("exited containers: %q", have)
	}
	x.must("start", "zwei")
	for range 2 { // one that its engine has removed leaves its name at once
		x.must("run", "--rm", "--name", "again", "busybox", "true")
	}
	x.must("rm", "-f", "one", "zwei", "three", "four")
	if have := x.must("ps", "-aq"); have != "" {
		t.Errorf("containers are left: %s", have)
	}
}

// streams has what clients hijack a connection for.
func (x *tenant) streams() {
	t := x.T
	if r := x.run("to be counted\n", "run", "-i", "--rm", "busybox", "cat"); r.code != 0 || r.out != "to be counted\n" {
		t.Errorf("cat: %+v", r)
	}
	if r := x.run("", "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"); r.code != 7 || r.out != "out\n" || r.errs != "err\n" {
		t.Errorf("a container that fails: %+v", r)
	}
	x.must("run", "-d", "--name", "ticks", "busybox", "sh", "-c", "while sleep 0.2; do echo tick; done")
	defer x.must("rm", "-f", "ticks")
	if r := x.run("through\n", "exec", "-i", "ticks", "cat"); r.code != 0 || r.out != "through\n" {
		t.Errorf("exec: %+v", r)
	}
	if r := x.run("", "exec", "ticks", "sh", "-c", "exit 3"); r.code != 3 {
		t.Errorf("the end of an exec: %+v", r)
	}
	follow := x.command("logs", "-f", "ticks")
	out := must[interface{ Read([]byte) (int, error) }](t)(follow.StdoutPipe())
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	for range 3 {
		if _, err := out.Read(buf); err != nil {
			t.Fatalf("following a log: %v", err)
		}
	}
	if err := follow.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = follow.Wait() // it was killed
	if out := x.must("stats", "--no-stream", "--format", "{{.Name}}", "ticks"); out != "ticks" {
		t.Errorf("stats: %q", out)
	}
	if out := x.must("top", "ticks"); !strings.Contains(out, "sleep") {
		t.Errorf("top: %q", out)
	}
}

// apart has two projects that know nothing of each other.
func apart(a, b *tenant) {
	t := a.T
	id := a.must("run", "-d", "--name", "mine", "busybox", "sleep", "1000")
	defer a.must("rm", "-f", "mine")
	if have := b.must("ps", "-aq"); have != "" {
		t.Errorf("another project sees %s", have)
	}
	for _, args := range [][]string{{"inspect", id}, {"logs", id}, {"exec", id, "true"}, {"stop", id}, {"rm", "-f", id}, {"rm", "-f", id[:12]}, {"kill", "mine"}, {"attach", id}, {"top", id}} {
		b.refused("o such", args...)
	}
	b.refused("not in the registry", "run", "--rm", "busybox", "true")
	b.refused("network", "network", "inspect", "private")
	if a.must("inspect", "--format", "{{.State.Running}}", "mine") != "true" {
		t.Error("another project has stopped it")
	}
	for _, flags := range [][]string{{"--privileged"}, {"-v", "/:/host"}, {"--network", "host"}, {"--pid", "host"}, {"-p", "80:80"}, {"--device", "/dev/null"}, {"--cap-add", "SYS_ADMIN"}, {"--network", "container:" + id}} {
		a.refused("not allowed here", append(append([]string{"run", "--rm"}, flags...), "busybox", "true")...)
	}
}

// pair runs two containers on different hosts of the network private.
func (x *tenant) pair(flags ...string) (left, right string) {
	x.Helper()
	for _, name := range []string{"left", "right", "right", "right"} {
		x.must(append(append([]string{"run", "-d", "--name", name, "--memory", "2g", "--network", "private"}, flags...), "busybox", "sh", "-c", "while true; do echo served | nc -l -p 8080; done")...)
		if name == "right" && x.node("left") != x.node("right") {
			return "left", "right"
		}
		if name == "right" {
			x.must("rename", "right", "r"+x.must("inspect", "--format", "{{.Id}}", "right")[:12])
		}
	}
	x.Fatal("all containers are on one host")
	return "", ""
}

// clear removes all containers.
func (x *tenant) clear() {
	x.Helper()
	x.must(append([]string{"rm", "-f"}, strings.Fields(x.must("ps", "-aq"))...)...)
}

// connects has containers on different hosts on one network of the cloud.
func (x *tenant) connects() {
	t := x.T
	left, right := x.pair()
	defer x.clear()
	at := x.address(right, "private")
	if out := x.eventually("exec", left, "sh", "-c", "nc -w 2 "+at+" 8080 </dev/null"); out != "served\n" {
		t.Errorf("from one host to the other: %q", out)
	}
	if out := x.must("exec", left, "cat", "/etc/resolv.conf"); !strings.Contains(out, "nameserver ") {
		t.Errorf("names of the network: %q", out)
	}
	var inspected []struct {
		Containers map[string]struct{ Name string }
	}
	if err := json.Unmarshal([]byte(x.must("network", "inspect", "private")), &inspected); err != nil || len(inspected) != 1 || len(inspected[0].Containers) < 2 {
		t.Errorf("the network: %+v, %v", inspected, err)
	}
	// A group without rules lets nothing in.
	c := x.clients("strata-demo")
	group := must[*groups.SecGroup](t)(groups.Create(t.Context(), c.network, groups.CreateOpts{Name: "closed"}).Extract())
	x.must("run", "-d", "--name", "shut", "--network", "name=private,driver-opt=security-groups=closed", "busybox", "sh", "-c", "while true; do echo served | nc -l -p 8080; done")
	if r := x.run("", "exec", left, "nc", "-w", "2", x.address("shut", "private"), "8080"); r.code == 0 {
		t.Errorf("a closed container answers: %+v", r)
	}
	x.must("rm", "-f", "shut")
	if err := groups.Delete(t.Context(), c.network, group.ID).ExtractErr(); err != nil {
		t.Errorf("the group is free once the container is gone: %v", err)
	}
}

// floats has a floating IP lead to a container, as its security group says, and the
// container reach a server of its network.
func (x *tenant) floats() {
	t, ctx, first := x.T, x.Context(), x.All[0]
	defer x.clear()
	x.must("run", "-d", "--name", "web", "busybox", "sh", "-c", "(while true; do echo hidden | nc -l -p 8080; done) & while true; do echo served | nc -l -p 22; done")
	c := x.clients("strata-demo")
	public := must[[]networks.Network](t)(func() ([]networks.Network, error) {
		pages, err := networks.List(c.network, networks.ListOpts{Name: "public"}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return networks.ExtractNetworks(pages)
	}())[0]
	port := x.must("inspect", "--format", `{{(index .NetworkSettings.Networks "private").EndpointID}}`, "web")
	fip := must[*floatingips.FloatingIP](t)(floatingips.Create(ctx, c.network, floatingips.CreateOpts{FloatingNetworkID: public.ID, PortID: port}).Extract())
	ask := func(port string) string {
		out, _ := first.Command(ctx, "timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/"+fip.FloatingIP+"/"+port+" && head -c 6 <&3").Output()
		return string(out)
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := wait.Until(limit, "the container at its floating IP", 200*time.Millisecond, func(context.Context) (bool, error) { return ask("22") == "served", nil }); err != nil {
		t.Error(err)
	}
	if got := ask("8080"); got != "" {
		t.Errorf("a port that no rule opens says %q", got)
	}
	x.image()
	x.strata(first, "launch", "vm")
	vm := must[[]ports.Port](t)(func() ([]ports.Port, error) {
		pages, err := ports.List(c.network, ports.ListOpts{DeviceOwner: "compute:nova"}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		return ports.ExtractPorts(pages)
	}())
	if len(vm) != 1 {
		t.Fatalf("the ports of servers: %+v", vm)
	}
	if out := x.eventually("exec", "web", "sh", "-c", "nc -w 3 "+vm[0].FixedIPs[0].IPAddress+" 22 </dev/null"); !strings.HasPrefix(out, "SSH-") {
		t.Errorf("the server says %q", out)
	}
	if err := floatingips.Delete(ctx, c.network, fip.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}

// away has a host's agent die: its containers are shown as such, can be removed, and are
// gone once it is back.
func (x *tenant) away() {
	t := x.T
	x.pair()
	defer x.clear()
	second := x.All[1]
	name := "left"
	if x.node(name) != second {
		name = "right"
	}
	id := x.must("inspect", "--format", "{{.Id}}", name)
	if err := syscall.Kill(x.pid(second), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := wait.Until(ctx, "the container to be unknown", 200*time.Millisecond, func(context.Context) (bool, error) {
		return strings.Contains(x.must("ps", "--filter", "name="+name, "--format", "{{.Status}}"), "Unknown"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x.refused("cannot be reached", "exec", name, "true")
	x.must("rm", "-f", name)
	if have := x.must("ps", "-a", "--filter", "name="+name, "--format", "{{.Names}}"); have != "" {
		t.Errorf("it is still there: %s", have)
	}
	x.must("run", "-d", "--name", name, "busybox", "sleep", "1000") // the name is free
	local := &dock{t: x.T, cloud: &cloud.Cloud{Dir: second.DataDir}, cli: x.cli}
	x.up(second)
	err = wait.Until(ctx, "the host to have removed it", 200*time.Millisecond, func(context.Context) (bool, error) {
		r := local.run(nil, "ps", "-aq", "--no-trunc")
		return r.code == 0 && !strings.Contains(r.out, id), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestCloudContainersOfMembers asks a control member that does not lead.
func TestCloudContainersOfMembers(t *testing.T) {
	f := newDockPool(t, 3, 3)
	f.awaitMembers(f.All[0], 3)
	lead := f.leader(f.All[0])
	f.push(lead, "demo/busybox:latest")
	x := f.tenant(f.other(lead), "strata-demo")
	if r := x.run("to be counted\n", "run", "-i", "--rm", "busybox", "cat"); r.code != 0 || r.out != "to be counted\n" {
		t.Errorf("cat: %+v", r)
	}
	x.must("run", "-d", "--name", "stays", "busybox", "sh", "-c", "while sleep 0.2; do echo tick; done")
	if r := x.run("through\n", "exec", "-i", "stays", "cat"); r.code != 0 || r.out != "through\n" {
		t.Errorf("exec: %+v", r)
	}
	follow := x.command("logs", "-f", "stays")
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(x.pid(lead), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = follow.Wait() // the leader passed it on
	if x.node("stays") != lead {
		x.eventually("exec", "stays", "true")
	}
	x.eventually("rm", "-f", "stays")
	x.up(lead)
}
