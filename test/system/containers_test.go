package system

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strata-cloud/strata/internal/wait"
)

// eventually waits until a question about containers is answered as wanted.
func (d *dock) eventually(what string, f func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	if err := wait.Until(ctx, what, 20*time.Millisecond, func(context.Context) (bool, error) { return f(), nil }); err != nil {
		d.t.Fatal(err)
	}
}

// TestContainers drives the engine with an unmodified docker.
func TestContainers(t *testing.T) {
	d := newDock(t)
	for name, test := range map[string]func(*testing.T, *dock){
		"run": testRun, "identity": testIdentity, "streams": testStreams, "exec": testExec, "life": testLife, "images": testImages,
		"network": testContainerNetwork, "volumes": testContainerVolumes, "security": testContainerSecurity, "restart policy": testRestartPolicy, "errors": testContainerErrors,
	} {
		t.Run(name, func(t *testing.T) { test(t, &dock{t: t, cloud: d.cloud, cli: d.cli}) })
	}
	if out := d.must("ps", "-aq"); out != "" {
		t.Errorf("containers are left: %s", out)
	}
	if out := d.must("volume", "ls", "-q"); out != "" {
		t.Errorf("volumes are left: %s", out)
	}
}

func testRun(t *testing.T, d *dock) {
	for _, c := range []struct {
		args      []string
		out, errs string
		code      int
	}{
		{[]string{"run", "--rm", "--network", "none", "busybox", "echo", "hello"}, "hello\n", "", 0},
		{[]string{"run", "--rm", "--network", "host", "busybox", "sh", "-c", "echo to-err >&2; exit 7"}, "", "to-err\n", 7},
		{[]string{"run", "--rm", "-e", "A=b", "--env", "FROM=client", "busybox", "sh", "-c", "echo $A $FROM"}, "b client\n", "", 0},
		{[]string{"run", "--rm", "-w", "/data", "busybox", "cat", "seed"}, "of the image\n", "", 0},
		{[]string{"run", "--rm", "--hostname", "box", "busybox", "hostname"}, "box\n", "", 0},
		{[]string{"run", "--rm", "--entrypoint", "/bin/echo", "busybox", "entry"}, "entry\n", "", 0},
	} {
		if r := d.run(nil, c.args...); r != (result{c.out, c.errs, c.code}) {
			t.Errorf("docker %s: %+v", strings.Join(c.args, " "), r)
		}
	}
	if r := d.run(nil, "run", "--rm", "busybox", "/no/such"); r.code != 127 || !strings.Contains(r.errs, "no such file") {
		t.Errorf("a program that is not there: %+v", r)
	}
	if r := d.run(nil, "run", "--rm", "busybox", "/etc"); r.code != 126 {
		t.Errorf("a directory as a program: %+v", r)
	}
	if r := d.run([]byte("typed\n"), "run", "--rm", "-i", "busybox", "cat"); r.out != "typed\n" || r.code != 0 {
		t.Errorf("input: %+v", r)
	}
	noise := bytes.Repeat([]byte{0, 1, 0xff, 0xfe, '\n', 0x80}, 200_000)
	if r := d.run(noise, "run", "--rm", "-i", "busybox", "cat"); r.out != string(noise) {
		t.Errorf("of %d bytes of binary input came back %d", len(noise), len(r.out))
	}
}

func testIdentity(t *testing.T, d *dock) {
	if out := d.must("run", "--rm", "busybox", "id"); out != "uid=0(root) gid=0(root) groups=0(root),10(wheel)" {
		t.Errorf("root is %s", out)
	}
	if out := d.must("run", "--rm", "--user", "app", "busybox", "id"); out != "uid=1000(app) gid=1000(app) groups=1000(app)" {
		t.Errorf("app is %s", out)
	}
}

// testStreams reads one log in all the ways there are.
func testStreams(t *testing.T, d *dock) {
	id := d.must("run", "-d", "--name", "talker", "busybox", "sh", "-c", "echo one; echo two >&2; sleep 0.2; echo three")
	defer d.must("rm", "-f", "-v", "talker")
	if code := d.must("wait", "talker"); code != "0" {
		t.Errorf("exit code %s", code)
	}
	r := d.run(nil, "logs", "talker")
	if r.out != "one\nthree\n" || r.errs != "two\n" {
		t.Errorf("logs: %+v", r)
	}
	if out := d.must("logs", "--tail", "1", id[:12]); out != "three" {
		t.Errorf("the last line is %q", out)
	}
	stamp, _, _ := strings.Cut(d.must("logs", "-t", "--tail", "1", "talker"), " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at) > time.Minute {
		t.Errorf("time stamp %q: %v", stamp, err)
	}
	if out := d.must("logs", "--since", time.Now().Add(time.Minute).Format(time.RFC3339), "talker"); out != "" {
		t.Errorf("the future has said %q", out)
	}
	testAttach(t, d)
}

func testAttach(t *testing.T, d *dock) {
	d.must("run", "-d", "-i", "--name", "echoer", "busybox", "sh", "-c", "echo ready; while read x; do echo got $x; done; exit 5")
	defer d.must("rm", "-f", "echoer")
	follow := d.command("logs", "-f", "echoer")
	out := must[io.ReadCloser](t)(follow.StdoutPipe())
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan(); lines.Text() != "ready" {
		t.Errorf("the first line is %q", lines.Text())
	}
	attach := d.command("attach", "echoer")
	attach.Stdin = strings.NewReader("a\nb\n")
	var attached bytes.Buffer
	attach.Stdout = &attached
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"got a", "got b"} {
		if lines.Scan(); lines.Text() != want {
			t.Errorf("followed %q, want %q", lines.Text(), want)
		}
	}
	d.must("stop", "-t", "0", "echoer")
	if attach.Wait(); attached.String() != "got a\ngot b\n" || attach.ProcessState.ExitCode() != 137 {
		t.Errorf("attach: %q, exit code %d", attached.String(), attach.ProcessState.ExitCode())
	}
	if lines.Scan() {
		t.Errorf("there is more: %q", lines.Text())
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("logs -f does not end with its container: %v", err)
	}
}

func testExec(t *testing.T, d *dock) {
	d.must("run", "-d", "--name", "host", "-e", "WHO=box", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "host")
	if r := d.run(nil, "exec", "host", "sh", "-c", "echo $WHO; echo e >&2; exit 3"); r != (result{"box\n", "e\n", 3}) {
		t.Errorf("exec: %+v", r)
	}
	if r := d.run([]byte("typed"), "exec", "-i", "host", "cat"); r.out != "typed" {
		t.Errorf("exec -i: %+v", r)
	}
	if out := d.must("exec", "-u", "app", "-w", "/data", "-e", "X=y", "host", "sh", "-c", "id -u; cat seed; echo $X"); out != "1000\nof the image\ny" {
		t.Errorf("exec -u -w -e: %q", out)
	}
	if r := d.run(nil, "exec", "host", "nothing"); r.code != 127 {
		t.Errorf("exec of nothing: %+v", r)
	}
	d.must("exec", "-d", "host", "touch", "/tmp/made")
	d.eventually("a detached process to have worked", func() bool { return d.run(nil, "exec", "host", "ls", "/tmp/made").code == 0 })
	if out := d.must("top", "host"); !strings.Contains(out, "sleep 600") {
		t.Errorf("top: %s", out)
	}
	if out := d.must("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "host"); out != "host 1" {
		t.Errorf("stats: %s", out)
	}
}

func testLife(t *testing.T, d *dock) {
	d.must("create", "--name", "first", "busybox", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done")
	if s := d.inspect("first", ".State.Status"); s != "created" {
		t.Errorf("a new container is %s", s)
	}
	d.must("start", "first")
	d.must("rename", "first", "second")
	d.must("pause", "second")
	if s := d.inspect("second", ".State.Status"); s != "paused" {
		t.Errorf("a paused container is %s", s)
	}
	d.must("unpause", "second")
	d.eventually("the trap", func() bool { return d.must("logs", "second") == "up" })
	d.must("stop", "second")
	if s := d.inspect("second", ".State.Status") + d.inspect("second", ".State.ExitCode"); s != "exited9" {
		t.Errorf("stopped by its signal: %s", s)
	}
	d.must("restart", "-t", "0", "second")
	d.must("kill", "second")
	if s := d.inspect("second", ".State.ExitCode"); s != "137" {
		t.Errorf("killed: %s", s)
	}
	if out := d.must("ps", "-a", "--filter", "status=exited", "--filter", "name=sec", "--format", "{{.Names}} {{.Image}}"); out != "second busybox" {
		t.Errorf("ps: %q", out)
	}
	if out := d.must("ps", "-q"); out != "" {
		t.Errorf("running: %q", out)
	}
	d.must("rm", "second")
	if out := d.must("run", "-d", "--rm", "busybox", "true"); out != "" {
		d.eventually("a container to remove itself", func() bool { return d.must("ps", "-aq") == "" })
	}
	d.must("create", "--name", "old", "busybox")
	if out := d.must("container", "prune", "-f"); !strings.Contains(out, "Deleted Containers") {
		t.Errorf("prune: %s", out)
	}
}

func testImages(t *testing.T, d *dock) {
	id := d.must("images", "-q", "--no-trunc", "busybox")
	d.must("tag", "busybox", "here/other:v2")
	archive := filepath.Join(t.TempDir(), "saved.tar")
	d.must("save", "-o", archive, "here/other:v2")
	if out := d.must("rmi", "here/other:v2"); out != "Untagged: here/other:v2" {
		t.Errorf("rmi: %q", out)
	}
	if out := d.must("load", "-i", archive); out != "Loaded image: here/other:v2" {
		t.Errorf("load: %q", out)
	}
	if out := d.must("run", "--rm", "here/other:v2", "cat", "/data/seed"); out != "of the image" {
		t.Errorf("from a loaded image: %q", out)
	}
	if got := d.must("images", "-q", "--no-trunc", "here/other"); got != id {
		t.Errorf("loaded %s, saved %s", got, id)
	}
	if out := d.must("history", "--format", "{{.ID}}", "busybox"); out == "" {
		t.Error("no history")
	}
	d.must("create", "--name", "user", "here/other:v2")
	d.must("rmi", "here/other:v2")
	if r := d.run(nil, "rmi", "busybox"); r.code != 1 || !strings.Contains(r.errs, "must force") {
		t.Errorf("an image in use: %+v", r)
	}
	d.must("rm", "user")
	if r := d.run(nil, "load", "-i", "/etc/hostname"); r.code != 1 {
		t.Errorf("no archive: %+v", r)
	}
}

func testContainerNetwork(t *testing.T, d *dock) {
	port := freeTCP(t)
	d.must("run", "-d", "--name", "web", "-p", "127.0.0.1:"+port+":80", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	defer d.must("rm", "-f", "web")
	if out := d.must("port", "web"); out != "80/tcp -> 127.0.0.1:"+port {
		t.Errorf("port: %q", out)
	}
	d.eventually("the published port", func() bool { return dial("127.0.0.1:"+port) == "served\n" })
	ip := d.inspect("web", ".NetworkSettings.IPAddress")
	d.eventually("the container's own port", func() bool { return dial(net.JoinHostPort(ip, "80")) == "served\n" })
	d.eventually("a neighbour to reach it", func() bool { return d.run(nil, "run", "--rm", "busybox", "nc", "-w", "3", ip, "80").out == "served\n" })
	if r := d.run(nil, "run", "--rm", "-p", "127.0.0.1:"+port+":80", "busybox", "true"); r.code == 0 || !strings.Contains(r.errs, "port is already allocated") {
		t.Errorf("a port twice: %+v", r)
	}
	d.must("network", "create", "apart", "--subnet", "10.213.7.0/24")
	defer d.must("network", "rm", "apart")
	if out := d.must("run", "--rm", "--network", "apart", "--ip", "10.213.7.9", "busybox", "sh", "-c", "ip -4 -o addr show eth0 | grep -o 10.213.7.9/24; nc -w 2 "+ip+" 80 || echo apart"); out != "10.213.7.9/24\napart" {
		t.Errorf("on another network: %q", out)
	}
	if out := d.must("run", "--rm", "--network", "container:web", "busybox", "sh", "-c", "ip -4 -o addr show eth0 | grep -c "+ip); out != "1" {
		t.Errorf("on another's network: %q", out)
	}
}

func freeTCP(t *testing.T) string {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// served asks a server that takes one client at a time, and has a pause between two.
func served(port string) (got string) {
	for range 20 {
		if got = dial("127.0.0.1:" + port); got == "served\n" {
			break
		}
	}
	return got
}

func dial(addr string) string {
	c, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	got, _ := io.ReadAll(c)
	return string(got)
}

func testContainerVolumes(t *testing.T, d *dock) {
	d.must("volume", "create", "--label", "a=b", "kept")
	defer d.must("volume", "rm", "kept")
	d.must("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo more > /data/more")
	if out := d.must("run", "--rm", "-v", "kept:/v:ro", "busybox", "cat", "/v/seed", "/v/more"); out != "of the image\nmore" {
		t.Errorf("the volume has %q", out)
	}
	if r := d.run(nil, "run", "--rm", "-v", "kept:/v:ro", "busybox", "touch", "/v/x"); r.code == 0 {
		t.Error("a read-only volume can be written")
	}
	dir := t.TempDir()
	d.must("run", "--rm", "-v", dir+":/host", "busybox", "sh", "-c", "echo out > /host/file")
	if raw, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(raw) != "out\n" {
		t.Errorf("the host's directory: %q, %v", raw, err)
	}
	d.must("create", "--name", "holder", "-v", "kept:/v", "-v", "/anonymous", "busybox")
	if r := d.run(nil, "volume", "rm", "kept"); r.code == 0 || !strings.Contains(r.errs, "in use") {
		t.Errorf("a volume in use: %+v", r)
	}
	d.must("rm", "-v", "holder")
	if out := d.must("volume", "ls", "-q"); out != "kept" {
		t.Errorf("after the container: %q", out)
	}
}

func testContainerSecurity(t *testing.T, d *dock) {
	status := func(args ...string) map[string]string {
		out := map[string]string{}
		for line := range strings.Lines(d.must(append(append([]string{"run", "--rm"}, args...), "busybox", "cat", "/proc/self/status")...)) {
			k, v, _ := strings.Cut(line, ":")
			out[k] = strings.TrimSpace(v)
		}
		return out
	}
	s := status()
	// Docker's set: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
	if s["CapEff"] != "00000000a80425fb" || s["Seccomp"] != "2" || s["NoNewPrivs"] != "0" {
		t.Errorf("by default: caps %s, seccomp %s, no new privileges %s", s["CapEff"], s["Seccomp"], s["NoNewPrivs"])
	}
	s = status("--cap-drop", "ALL", "--cap-add", "chown", "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined")
	if s["CapEff"] != "0000000000000001" || s["Seccomp"] != "0" || s["NoNewPrivs"] != "1" {
		t.Errorf("as asked: caps %s, seccomp %s, no new privileges %s", s["CapEff"], s["Seccomp"], s["NoNewPrivs"])
	}
	for _, cmd := range []string{"cat /proc/kcore | grep -c .", "echo 1 > /proc/sys/kernel/domainname", "mount -t tmpfs none /tmp"} {
		if r := d.run(nil, "run", "--rm", "busybox", "sh", "-c", cmd); r.code == 0 {
			t.Errorf("%s works: %+v", cmd, r)
		}
	}
	if r := d.run(nil, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", "touch /tmp/x && touch /x"); r.code == 0 || !strings.Contains(r.errs, "Read-only file system") || strings.Contains(r.errs, "/tmp/x") {
		t.Errorf("read-only: %+v", r)
	}
	if out := d.must("run", "--rm", "--ulimit", "nofile=100:200", "--memory", "64m", "busybox", "sh", "-c", "ulimit -n"); out != "100" {
		t.Errorf("ulimit: %s", out)
	}
}

func testRestartPolicy(t *testing.T, d *dock) {
	d.must("run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 1")
	defer d.must("rm", "-f", "again")
	d.eventually("the third end", func() bool {
		return d.inspect("again", ".State.Status") == "exited" && d.must("logs", "again") == "run\nrun\nrun"
	})
	if n := d.inspect("again", ".RestartCount"); n != "2" {
		t.Errorf("restarted %s times", n)
	}
}

func testContainerErrors(t *testing.T, d *dock) {
	for _, c := range []struct{ args, want string }{
		{"inspect nothing", "No such object: nothing"},
		{"start nothing", "No such container: nothing"},
		{"create --name -bad busybox", "Invalid container name"},
		{"create --memory 1m busybox", "Minimum memory limit allowed is 6MB"},
		{"create --runtime other busybox", "not supported"},
		{"create --log-driver syslog busybox", "error looking up logging plugin syslog"},
		{"create -v relative/path:/x busybox", "includes invalid characters"},
		{"network rm bridge", "pre-defined network and cannot be removed"},
		{"volume inspect nothing", "no such volume"},
		{"swarm init", "page not found"},
	} {
		if r := d.run(nil, strings.Fields(c.args)...); r.code == 0 || !strings.Contains(strings.ToLower(r.errs), strings.ToLower(c.want)) { // clients spell some themselves
			t.Errorf("docker %s: %+v", c.args, r)
		}
	}
	if out := d.must("ps", "-aq"); out != "" {
		t.Errorf("refused creations have left containers: %s", out)
	}
}

// TestContainersOutliveTheEngine kills strata under containers, lets one end
// meanwhile, and removes every trace in the end.
func TestContainersOutliveTheEngine(t *testing.T) {
	before := look(t, "none")
	d := newDock(t)
	port := freeTCP(t)
	d.must("run", "-d", "--name", "counter", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
	d.must("run", "-d", "--name", "ender", "busybox", "sh", "-c", "echo up; sleep 600")
	d.must("run", "-d", "-p", "127.0.0.1:"+port+":80", "--name", "server", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	d.must("run", "-d", "-i", "--name", "reader", "busybox", "sh", "-c", "read x; echo read $x; sleep 600")
	pid := d.inspect("counter", ".State.Pid")
	ender := must[int](t)(strconv.Atoi(d.inspect("ender", ".State.Pid")))
	d.cloud.Kill()
	if err := syscall.Kill(ender, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if got := served(port); got != "served\n" {
		t.Errorf("while the engine is away: %q", got)
	}
	d.cloud.Up()
	if got := d.inspect("counter", ".State.Status") + d.inspect("counter", ".State.Pid"); got != "running"+pid {
		t.Errorf("the counter is %s", got)
	}
	if got := d.inspect("ender", ".State.Status") + d.inspect("ender", ".State.ExitCode"); got != "exited137" {
		t.Errorf("the one that has ended is %s", got)
	}
	if r := d.run([]byte("word\n"), "exec", "-i", "reader", "cat"); r.out != "word\n" {
		t.Errorf("exec afterwards: %+v", r)
	}
	n := len(strings.Fields(d.must("logs", "counter")))
	d.eventually("the log to grow", func() bool { return len(strings.Fields(d.must("logs", "counter"))) > n })
	d.must("stop", "-t", "0", "counter")
	for i, line := range strings.Fields(d.must("logs", "counter")) {
		if line != fmt.Sprint(i+1) {
			t.Fatalf("line %d of the log is %s", i+1, line)
		}
	}
	d.cloud.Must("down")
	if got := served(port); got != "served\n" {
		t.Errorf("after down: %q", got)
	}
	d.cloud.Up()
	if got := d.must("ps", "-q"); len(strings.Fields(got)) != 2 {
		t.Errorf("running after down and up: %q", got)
	}
	d.cloud.Reset()
	if diff := cmp.Diff(before, look(t, d.cloud.Name())); diff != "" {
		t.Errorf("the machine is not as before (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join("/run/strata", d.cloud.Name())); !os.IsNotExist(err) {
		t.Errorf("run-time files are left: %v", err)
	}
}
