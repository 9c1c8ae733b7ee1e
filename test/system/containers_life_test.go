package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/region"
)

// TestContainerLife drives what happens to a container between its start and its end.
func TestContainerLife(t *testing.T) {
	d := newDock(t)
	for name, test := range map[string]func(*testing.T, *dock){
		"copy": testCopy, "changes": testChanges, "update": testUpdate, "health": testHealth, "init": testInit, "borrowed volumes": testVolumesFrom,
		"profiles": testProfiles, "limits": testLimits, "namespaces": testNamespaces, "mounts": testMountKinds, "logs": testLogLimits, "detach": testDetach, "events": testContainerEvents,
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

// testCopy copies both ways, while a container runs and after.
func testCopy(t *testing.T, d *dock) {
	dir := t.TempDir()
	d.must("run", "-d", "--name", "box", "-v", "box-data:/v", "--tmpfs", "/fast", "busybox", "sleep", "600")
	defer d.must("volume", "rm", "box-data")
	defer d.must("rm", "-f", "box")
	d.must("exec", "box", "sh", "-c", "echo inside > /tmp/f; ln -s /etc /tmp/link; ln -s / /tmp/root; ln -s f /tmp/tof; echo v > /v/f; echo fast > /fast/f")
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from outside\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"running", "stopped"} {
		for path, want := range map[string]string{"/tmp/f": "inside\n", "/v/f": "v\n", "tmp/root/tmp/f": "inside\n"} {
			to := filepath.Join(dir, "out")
			d.must("cp", "box:"+path, to)
			if raw, err := os.ReadFile(to); err != nil || string(raw) != want {
				t.Errorf("%s: %s is %q, %v", state, path, raw, err)
			}
		}
		d.must("cp", "-L", "box:/tmp/tof", filepath.Join(dir, "followed"))
		if raw, err := os.ReadFile(filepath.Join(dir, "followed")); err != nil || string(raw) != "inside\n" {
			t.Errorf("%s: a link that is followed: %q, %v", state, raw, err)
		}
		d.must("cp", "box:/tmp", filepath.Join(dir, state))
		if to, err := os.Readlink(filepath.Join(dir, state, "link")); err != nil || to != "/etc" {
			t.Errorf("%s: a link is %q, %v", state, to, err)
		}
		d.must("cp", filepath.Join(dir, "in"), "box:/tmp/link/"+state) // the container's /etc
		d.must("cp", filepath.Join(dir, "in"), "box:/v/"+state)
		if _, err := os.Stat("/etc/" + state); err == nil {
			t.Errorf("%s: a link has led to the host's /etc", state)
		}
		for _, c := range []struct{ from, to, want string }{
			{"box:/nothing", dir, "/nothing"}, // clients say it in their own words,
			{filepath.Join(dir, "in"), "box:/none/x", "/none"},
			{filepath.Join(dir, "in"), "nobody:/x", "No such container"},
			{filepath.Join(dir, state), "box:/tmp/f", "cannot copy"},
		} {
			if r := d.run(nil, "cp", c.from, c.to); r.code != 1 || !strings.Contains(strings.ToLower(r.errs), strings.ToLower(c.want)) {
				t.Errorf("%s: cp %s %s: %+v", state, c.from, c.to, r)
			}
		}
		if state == "running" {
			d.must("cp", "box:/fast/f", filepath.Join(dir, "fast"))
			d.must("stop", "-t", "0", "box")
		}
	}
	d.must("start", "box")
	if out := d.must("exec", "box", "cat", "/etc/running", "/etc/stopped", "/v/stopped"); out != strings.Repeat("from outside\n", 2)+"from outside" {
		t.Errorf("copied in: %q", out)
	}
	testCopyReadOnly(t, d, filepath.Join(dir, "in"))
}

func testCopyReadOnly(t *testing.T, d *dock, file string) {
	d.must("run", "-d", "--name", "fixed", "--read-only", "-v", "box-data:/v:ro", "-v", "/w", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "-v", "fixed")
	for range 2 {
		for _, to := range []string{"/tmp", "/v"} {
			if r := d.run(nil, "cp", file, "fixed:"+to); r.code != 1 || !strings.Contains(r.errs, "read-only") {
				t.Errorf("into %s, which is read-only: %+v", to, r)
			}
		}
		d.must("cp", file, "fixed:/w")
		d.must("stop", "-t", "0", "fixed")
	}
}

func testChanges(t *testing.T, d *dock) {
	d.must("run", "--name", "changer", "-v", "/data/v", "busybox", "sh", "-c", "echo x > /tmp/new; rm /data/seed; mkdir /d; touch /data/v/volume")
	defer d.must("rm", "-v", "changer")
	if out := d.must("diff", "changer"); out != "A /d\nC /data\nD /data/seed\nA /data/v\nC /tmp\nA /tmp/new" {
		t.Errorf("diff:\n%s", out)
	}
	r := d.run(nil, "export", "changer")
	for _, c := range []struct {
		text string
		in   bool
	}{{"bin/busybox", true}, {"tmp/new", true}, {"data/seed", false}, {"data/v/volume", false}} {
		if strings.Contains(r.out, c.text+"\x00") != c.in {
			t.Errorf("export has %s: %v", c.text, !c.in)
		}
	}
	d.must2([]byte(r.out), "import", "-", "exported")
	if out := d.must("run", "--rm", "exported", "/bin/cat", "/tmp/new"); out != "x" {
		t.Errorf("exported and imported: %q", out)
	}
	d.must("rmi", "exported")
}

func testUpdate(t *testing.T, d *dock) {
	id := d.must("run", "-d", "--name", "grown", "--memory", "32m", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "grown")
	d.must("update", "--memory", "64m", "--memory-swap", "128m", "--cpus", "0.5", "--pids-limit", "33", "--restart", "on-failure:3", "grown")
	assertLimits(t, id, limit{"memory/*/*/memory.limit_in_bytes", "67108864", "memory.max", "67108864"}, limit{"cpu/*/*/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		limit{"pids/*/*/pids.max", "33", "pids.max", "33"})
	if got := d.inspect("grown", ".HostConfig.RestartPolicy.Name") + d.inspect("grown", ".HostConfig.Memory"); got != "on-failure67108864" {
		t.Errorf("inspect: %s", got)
	}
	d.must("restart", "-t", "0", "grown")
	assertLimits(t, id, limit{"memory/*/*/memory.limit_in_bytes", "67108864", "memory.max", "67108864"})
	if r := d.run(nil, "update", "--cpu-quota", "20000", "grown"); r.code != 1 || !strings.Contains(r.errs, "Conflicting options") {
		t.Errorf("a quota over cpus: %+v", r)
	}
	if r := d.run(nil, "update", "--memory", "1m", "grown"); r.code != 1 || !strings.Contains(r.errs, "6MB") {
		t.Errorf("too little memory: %+v", r)
	}
}

// limit is where a limit of a container is found and what it is there: as a pattern
// below the control groups of version 1, and as a file of the container's own group of
// version 2; "" where a version has none that says it.
type limit struct{ file1, want1, file2, want2 string }

// assertLimits looks at what the kernel holds a container to.
func assertLimits(t *testing.T, id string, limits ...limit) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	for _, l := range limits {
		file, want := l.file1, l.want1
		if err == nil {
			file, want = filepath.Join("*/*", l.file2), l.want2
		}
		if want == "" {
			continue
		}
		found := slices.DeleteFunc(must[[]string](t)(filepath.Glob(filepath.Join(root, file))), func(f string) bool { return !strings.Contains(f, id) })
		if len(found) != 1 {
			t.Errorf("%s of the container is at %v", file, found)
			continue
		}
		if got := strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(found[0])))); !strings.Contains("\n"+got+"\n", "\n"+want+"\n") {
			t.Errorf("%s is %q, want %s", file, got, want)
		}
	}
}

func testHealth(t *testing.T, d *dock) {
	d.must("run", "-d", "--name", "patient", "--health-cmd", "test -e /tmp/well || { echo ill; false; }", "--health-interval", "100ms", "--health-retries", "2", "--health-start-period", "1ms", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "patient")
	is := func(want string) func() bool {
		return func() bool { return d.inspect("patient", ".State.Health.Status") == want }
	}
	d.eventually("it to be unhealthy", is("unhealthy"))
	if out := d.inspect("patient", "(index .State.Health.Log 0).Output"); out != "ill" {
		t.Errorf("the probe has said %q", out)
	}
	if out := d.must("ps", "--filter", "health=unhealthy", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "patient Up ") || !strings.HasSuffix(out, " (unhealthy)") {
		t.Errorf("ps: %q", out)
	}
	d.must("exec", "patient", "touch", "/tmp/well")
	d.eventually("it to be healthy", is("healthy"))
	d.cloud.Kill()
	d.cloud.Up()
	d.must("exec", "patient", "rm", "/tmp/well")
	d.eventually("it to be unhealthy under another engine", is("unhealthy"))
	d.must("restart", "-t", "0", "patient")
	if s := d.inspect("patient", ".State.Health.Status"); s == "healthy" {
		t.Error("it is healthy before the first probe")
	}
	d.must("run", "-d", "--name", "slow", "--health-cmd", "sleep 600", "--health-interval", "100ms", "--health-timeout", "100ms", "--health-retries", "1", "busybox", "sleep", "601")
	defer d.must("rm", "-f", "slow")
	d.eventually("a probe that hangs to count as failed", func() bool { return d.inspect("slow", ".State.Health.Status") == "unhealthy" })
	if out := d.inspect("slow", "(index .State.Health.Log 0).Output"); !strings.Contains(out, "exceeded timeout (100ms)") {
		t.Errorf("a probe that hangs says %q", out)
	}
}

func testInit(t *testing.T, d *dock) {
	if r := d.run(nil, "run", "--rm", "--init", "busybox", "sh", "-c", "ps -o pid,args; exit 5"); r.code != 5 || !strings.Contains(r.out, "1 /sbin/docker-init -- sh") {
		t.Errorf("--init: %+v", r)
	}
	for name, left := range map[string]string{"--init=true": "0", "--init=false": "1"} {
		d.must("run", "-d", name, "--name", "parent", "busybox", "sleep", "600")
		d.must("exec", "parent", "sh", "-c", "sleep 0.1 & sleep 0")
		d.eventually("the orphan to end", func() bool { return !strings.Contains(d.must("exec", "parent", "ps"), "sleep 0.1") })
		if out := d.run(nil, "exec", "parent", "sh", "-c", "cat /proc/[0-9]*/status | grep -c 'State:.Z'").out; out != left+"\n" {
			t.Errorf("%s: %s processes are zombies", name, out)
		}
		d.must("rm", "-f", "parent")
	}
	d.must("run", "-d", "--init", "--name", "trapped", "busybox", "sh", "-c", "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done")
	defer d.must("rm", "-f", "trapped")
	d.eventually("the trap", func() bool { return d.must("logs", "trapped") == "up" })
	d.must("stop", "trapped")
	if code := d.inspect("trapped", ".State.ExitCode"); code != "6" {
		t.Errorf("stopped through the init: %s", code)
	}
}

func testVolumesFrom(t *testing.T, d *dock) {
	d.must("run", "--name", "lender", "-v", "/a", "-v", "lent:/b", "busybox", "sh", "-c", "echo a > /a/f; echo b > /b/f")
	defer d.must("volume", "rm", "lent")
	defer d.must("rm", "-v", "lender")
	if out := d.must("run", "--rm", "--volumes-from", "lender", "busybox", "cat", "/a/f", "/b/f"); out != "a\nb" {
		t.Errorf("borrowed: %q", out)
	}
	if r := d.run(nil, "run", "--rm", "--volumes-from", "lender:ro", "-v", "owned:/b", "busybox", "sh", "-c", "ls /b; echo own > /b/f && echo x > /a/f"); r.code == 0 || !strings.Contains(r.errs, "Read-only") || r.out != "" {
		t.Errorf("borrowed to be read, but for one of its own: %+v", r)
	}
	d.must("volume", "rm", "owned")
	if out := d.must("run", "--rm", "-v", "lent:/b", "busybox", "cat", "/b/f"); out != "b" {
		t.Errorf("afterwards: %q", out)
	}
	if r := d.run(nil, "create", "--volumes-from", "nobody", "busybox"); r.code == 0 || !strings.Contains(r.errs, "No such container") {
		t.Errorf("from nobody: %+v", r)
	}
}

func testProfiles(t *testing.T, d *dock) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	text := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := d.run(nil, "run", "--rm", "--security-opt", "seccomp="+profile, "busybox", "sh", "-c", "touch /tmp/x && mkdir /tmp/d"); r.code == 0 || !strings.Contains(r.errs, "Operation not permitted") || strings.Contains(r.errs, "touch") {
		t.Errorf("a profile of one's own: %+v", r)
	}
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"NONE","syscalls":7}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := d.run(nil, "run", "--rm", "--security-opt", "seccomp="+profile, "busybox", "true"); r.code != 125 {
		t.Errorf("what is no profile: %+v", r)
	}
	if out := d.must("run", "--rm", "--privileged", "busybox", "sh", "-c", "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs none /tmp && echo mounted"); !strings.Contains(out, "Seccomp:\t0") || !strings.HasSuffix(out, "mounted") {
		t.Errorf("privileged: %s", out)
	}
}

func testLimits(t *testing.T, d *dock) {
	id := d.must("run", "-d", "--name", "limited", "--memory", "32m", "--cpus", "0.25", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "17", "--oom-kill-disable", "--blkio-weight", "300", "--ulimit", "nofile=99:99",
		"--sysctl", "net.ipv4.ip_forward=0", "--device", "/dev/zero:/dev/nought:r", "--device", "/dev/loop-control:/dev/loops:r", "--device-cgroup-rule", "c 7:* rwm", "--user", "app", "--group-add", "wheel", "--oom-score-adj", "100", "--stop-signal", "USR1", "--stop-timeout", "1", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "limited")
	assertLimits(t, id, limit{"memory/*/*/memory.limit_in_bytes", "33554432", "memory.max", "33554432"}, limit{"memory/*/*/memory.oom_control", "oom_kill_disable 1", "", ""},
		limit{"cpu/*/*/cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"}, limit{"cpu/*/*/cpu.shares", "512", "", ""}, limit{"cpuset/*/*/cpuset.cpus", "0", "cpuset.cpus", "0"},
		limit{"pids/*/*/pids.max", "17", "pids.max", "17"})
	// What may be opened: there are no devices behind these numbers, and the kernel says so only where they may.
	devices := "cd /tmp; for n in 7 9; do /bin/busybox mknod n$n c $n 250; (: <n$n) 2>&1; done; (: </dev/loops && echo opened) 2>&1; (: >/dev/loops) 2>&1"
	lines := strings.Split(d.run(nil, "exec", "-u", "root", "limited", "sh", "-c", devices).out, "\n")
	for i, refused := range []bool{false, true, false, true} {
		if i >= len(lines) || strings.Contains(lines[i], "not permitted") != refused {
			t.Errorf("devices: %q", lines)
			break
		}
	}
	if out := d.must("exec", "limited", "sh", "-c", "ulimit -n; id -G; cat /proc/1/oom_score_adj; cat /proc/sys/net/ipv4/ip_forward; head -c 3 /dev/nought | wc -c"); out != "99\n1000 10\n100\n0\n3" {
		t.Errorf("inside: %q", out)
	}
	d.must("stop", "limited")
	if code := d.inspect("limited", ".State.ExitCode"); code != "138" && code != "137" { // the first process has no default action for USR1
		t.Errorf("stopped: %s", code)
	}
	for args, want := range map[string]string{"--cpus 1000": "Range of CPUs", "--blkio-weight 5": "Range of blkio weight", "--memory 8m --memory-reservation 16m": "memory reservation limit", "--cpu-period 10": "CPU cfs period", "--device /dev/none": "no such file", "--oom-score-adj 2000": "oom score adj"} {
		if r := d.run(nil, append(append([]string{"create"}, strings.Fields(args)...), "busybox")...); r.code == 0 || !strings.Contains(strings.ToLower(r.errs), strings.ToLower(want)) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

func testNamespaces(t *testing.T, d *dock) {
	own := func(kind string) string { return must[string](t)(os.Readlink("/proc/self/ns/" + kind)) }
	for _, c := range []struct{ flag, kind string }{{"--pid=host", "pid"}, {"--ipc=host", "ipc"}, {"--uts=host", "uts"}, {"--network=host", "net"}, {"--cgroupns=host", "cgroup"}} {
		if out := d.must("run", "--rm", c.flag, "busybox", "readlink", "/proc/self/ns/"+c.kind); out != own(c.kind) {
			t.Errorf("%s: %s is %s, the host's %s", c.flag, c.kind, out, own(c.kind))
		}
	}
	if out := d.must("run", "--rm", "--cgroupns=private", "busybox", "readlink", "/proc/self/ns/cgroup"); out == own("cgroup") {
		t.Error("--cgroupns=private has the host's")
	}
	d.must("run", "-d", "--name", "first", "--ipc=shareable", "busybox", "sleep", "600")
	defer d.must("rm", "-f", "first")
	for _, kind := range []string{"pid", "ipc"} {
		want := d.must("exec", "first", "readlink", "/proc/1/ns/"+kind)
		if out := d.must("run", "--rm", "--"+kind+"=container:first", "busybox", "readlink", "/proc/self/ns/"+kind); out != want || want == own(kind) {
			t.Errorf("--%s=container:first: %s, the first has %s", kind, out, want)
		}
	}
}

func testMountKinds(t *testing.T, d *dock) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("bound\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := d.must("run", "--rm", "--mount", "type=bind,src="+dir+",dst=/b,readonly", "--mount", "type=volume,src=kinds,dst=/data", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1700", "--tmpfs", "/u:size=2m,uid=1000", "busybox",
		"sh", "-c", "cat /b/f /data/seed; touch /b/x 2>/dev/null || echo ro; stat -c %a /t; stat -c %u /u; grep -o 'size=[12][^,]*' /proc/mounts")
	defer d.must("volume", "rm", "kinds")
	if want := "bound\nof the image\nro\n1700\n1000\nsize=1024k\nsize=2048k"; out != want {
		t.Errorf("mounts: %q, want %q", out, want)
	}
	if r := d.run(nil, "run", "--rm", "--mount", "type=bind,src="+dir+"/none,dst=/b", "busybox", "true"); r.code != 125 || !strings.Contains(r.errs, "bind source path does not exist") {
		t.Errorf("a bind of nothing: %+v", r)
	}
	if out := d.must("run", "--rm", "--mount", "type=volume,src=bare,dst=/data,volume-nocopy", "busybox", "ls", "/data"); out != "" {
		t.Errorf("a volume without a copy has %q", out)
	}
	d.must("volume", "rm", "bare")
}

func testLogLimits(t *testing.T, d *dock) {
	d.must("run", "--name", "chatty", "--log-opt", "max-size=20k", "--log-opt", "max-file=2", "busybox", "seq", "1", "20000")
	defer d.must("rm", "chatty")
	lines := strings.Fields(d.must("logs", "chatty"))
	if n := len(lines); n == 0 || n > 15000 || lines[n-1] != "20000" {
		t.Errorf("%d lines are kept, the last is %s", n, lines[max(n-1, 0)])
	}
	for i, l := range lines {
		if want := fmt.Sprint(20000 - len(lines) + 1 + i); l != want && i > 0 { // the first may be cut
			t.Fatalf("line %d of those kept is %s, want %s", i, l, want)
		}
	}
	d.must("run", "--name", "mute", "--log-driver", "none", "busybox", "echo", "unheard")
	defer d.must("rm", "mute")
	if r := d.run(nil, "logs", "mute"); r.code != 1 || !strings.Contains(r.errs, "configured logging driver does not support reading") {
		t.Errorf("logs of none: %+v", r)
	}
	if out := d.must("run", "--rm", "--log-driver", "none", "busybox", "echo", "heard"); out != "heard" {
		t.Errorf("attached without a log: %q", out)
	}
}

// testDetach types the keys for leaving at a container's terminal. docker itself
// wants a terminal for that, so this speaks as it does then.
func testDetach(t *testing.T, d *dock) {
	d.must("run", "-dit", "--name", "shell", "busybox", "sh")
	defer d.must("rm", "-f", "shell")
	conn := must[net.Conn](t)(net.Dial("unix", filepath.Join(d.cloud.Dir, region.DockerSocket)))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprint(conn, "POST /v1.41/containers/shell/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,x HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		line = must[string](t)(in.ReadString('\n'))
	}
	fmt.Fprint(conn, "echo $((40+2))\n")
	for line := ""; !strings.HasPrefix(line, "42"); {
		line = must[string](t)(in.ReadString('\n'))
	}
	fmt.Fprint(conn, "\x18x")
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Errorf("the stream does not end with the keys: %v", err)
	}
	if s := d.inspect("shell", ".State.Status"); s != "running" {
		t.Errorf("the container is %s", s)
	}
	if r := d.run(nil, "attach", "--detach-keys", "ctrl-long", "shell"); r.code == 0 {
		t.Errorf("bad keys: %+v", r)
	}
}

func testContainerEvents(t *testing.T, d *dock) {
	if r := d.run(nil, "run", "--name", "told", "--label", "a=b", "busybox", "sh", "-c", "exit 3"); r.code != 3 {
		t.Errorf("%+v", r)
	}
	d.must("rm", "told")
	until := time.Now().Add(time.Second).Format(time.RFC3339Nano)
	out := d.must("events", "--since", "1m", "--until", until, "--filter", "container=told", "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}")
	if want := "create <no value>\nattach <no value>\nstart <no value>\ndie 3\ndestroy <no value>"; out != want {
		t.Errorf("events:\n%s\nwant\n%s", out, want)
	}
	if out := d.must("events", "--since", "1m", "--until", until, "--filter", "label=a=b", "--filter", "event=die", "--filter", "type=container", "--format", "{{.Type}} {{.Action}}"); out != "container die" {
		t.Errorf("filtered events: %s", out)
	}
}
