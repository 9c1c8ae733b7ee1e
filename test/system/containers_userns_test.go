package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/user"

	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestContainersUserns runs containers in user namespaces.
func TestContainersUserns(t *testing.T) {
	subordinate(t)
	d := newDock(t, "--containers-userns-remap", "default")
	ids := must[*idmap.Map](t)(idmap.Host.Lookup(idmap.Default))
	uid, gid := ids.RootPair()
	root := fmt.Sprintf("%d:%d", uid, gid)
	if out := d.must("info", "--format", "{{.SecurityOptions}}"); !strings.Contains(out, "name=userns") {
		t.Errorf("security options %s", out)
	}
	for _, part := range []struct {
		name string
		f    func(*testing.T, *dock, string)
	}{
		{"root", testUsernsRoot}, {"refusals", testUsernsRefusals}, {"network", testUsernsNetwork}, {"volumes", testUsernsVolumes},
		{"copy", testUsernsCopy}, {"layers", testUsernsLayers}, {"commit", testUsernsCommit}, {"sharing", testUsernsSharing}, {"kill", testUsernsKill},
	} {
		t.Run(part.name, func(t *testing.T) { part.f(t, &dock{t: t, cloud: d.cloud, cli: d.cli}, root) })
	}
}

// TestContainersUsernsApart does so where shims have mount namespaces of their own.
func TestContainersUsernsApart(t *testing.T) {
	cloud.ShareRoot(t)
	subordinate(t)
	d := newDock(t, "--containers-userns-remap", "default")
	for _, f := range []func(*testing.T, *dock, string){testUsernsNetwork, testUsernsCopy, testUsernsSharing} { // no t.Run: it has another thread
		f(t, d, "")
	}
	d.must("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "ram")
	if out := d.must("run", "--rm", "-v", "ram:/v", "busybox", "sh", "-c", "touch /v/x; stat -c %u /v/x; grep -c '^tmpfs /v ' /proc/mounts"); out != "0\n1" {
		t.Errorf("in a volume with options: %q", out)
	}
}

// subordinate gives ids to whom "default" means, unless there are some, for the time of
// the test.
func subordinate(t *testing.T) {
	t.Helper()
	for _, path := range []string{idmap.Host.SubUID, idmap.Host.SubGID} {
		all, err := user.ParseSubIDFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		var free int64 = 231072
		have := false
		for _, r := range all {
			free, have = max(free, r.SubID+r.Count), have || r.Name == idmap.DefaultUser
		}
		if have {
			continue
		}
		before, err := os.ReadFile(path)
		was := err == nil
		line := fmt.Sprintf("%s:%d:65536\n", idmap.DefaultUser, free)
		if err := os.WriteFile(path, append(before, line...), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			now := must[[]byte](t)(os.ReadFile(path))
			rest := bytes.Replace(now, []byte(line), nil, 1)
			err := os.WriteFile(path, rest, 0o644)
			if !was && len(rest) == 0 {
				err = os.Remove(path)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// ofProcess is whose a process is on the host, as UID:GID.
func ofProcess(t *testing.T, pid string) string {
	t.Helper()
	var ids [2]string
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/" + pid + "/status")))) {
		f := strings.Fields(line)
		switch f[0] {
		case "Uid:":
			ids[0] = f[1]
		case "Gid:":
			ids[1] = f[1]
		}
	}
	return ids[0] + ":" + ids[1]
}

// ofFile is whose a file is on the host.
func ofFile(t *testing.T, path string) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// plus is whose what is a user's of a container on the host, by whose its root's is.
func plus(t *testing.T, root string, n int) string {
	t.Helper()
	uid, gid, _ := strings.Cut(root, ":")
	return fmt.Sprintf("%d:%d", must[int](t)(strconv.Atoi(uid))+n, must[int](t)(strconv.Atoi(gid))+n)
}

// expect compares what several commands in a container say.
func (d *dock) expect(name string, says map[string]string) {
	d.t.Helper()
	for line, want := range says {
		if got := d.sh(name, line); got != want {
			d.t.Errorf("%s: %s: %q, want %q", name, line, got, want)
		}
	}
}

// testUsernsRoot has root in a container be root there alone.
func testUsernsRoot(t *testing.T, d *dock, root string) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start("box", "-v", secret+":/secret", "--tmpfs", "/scratch", "--init", "--cap-add", "NET_ADMIN", "--device", "/dev/zero:/dev/nought", "busybox", "sleep", "600")
	if got := ofProcess(t, d.inspect("box", ".State.Pid")); got != root {
		t.Errorf("root of the container is %s on the host, want %s", got, root)
	}
	d.expect("box", map[string]string{
		"id -u": "0",
		"stat -c %u:%g /bin/busybox /data/seed /etc/hosts /scratch /etc": "0:0\n0:0\n0:0\n0:0\n0:0",
		"cat /secret":        "cat: can't open '/secret': Permission denied",
		"stat -c %u /secret": "65534",
		"echo x >/bin/x && ln -s x /tmp/l && mkdir -p /new/dir && echo made": "made",
		"echo 192.0.2.1 added >>/etc/hosts && grep -c added /etc/hosts":      "1",
		"ls /sys/class/net": "eth0\nlo",
		"busybox ip link set eth0 mtu 1400 && echo changed": "changed",
		"stat -c %F /dev/nought /dev/null":                  "character special file\ncharacter special file",
		"echo y >/proc/sys/kernel/hostname":                 "sh: can't create /proc/sys/kernel/hostname: Read-only file system",
		"mount -t proc none /tmp 2>&1 | head -n 1":          "mount: permission denied (are you root?)",
	})
	if out := d.must("exec", "-u", "app", "box", "sh", "-c", "id -u; echo out >/dev/stdout; touch /scratch/of-app; stat -c %u:%g /scratch/of-app"); out != "1000\nout\n1000:1000" {
		t.Errorf("as another user: %q", out)
	}
	if out := d.must("run", "--rm", "-u", "app", "busybox", "sh", "-c", "echo out >/dev/stdout; cat /proc/self/setgroups"); out != "out\nallow" {
		t.Errorf("the output of another user's process: %q", out)
	}
	if out := d.must("run", "--rm", "-t", "--read-only", "busybox", "sh", "-c", "ls -l /dev/console | wc -l; touch /x || true"); !strings.HasPrefix(out, "1") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("with a terminal: %q", out)
	}
	out := d.must("run", "--rm", "-d", "--userns", "host", "--name", "free", "-v", secret+":/secret", "busybox", "sleep", "600")
	d.t.Cleanup(func() { d.run(nil, "rm", "-f", out) })
	if got := ofProcess(t, d.inspect("free", ".State.Pid")); got != "0:0" {
		t.Errorf("with --userns host root is %s", got)
	}
	d.expect("free", map[string]string{"cat /secret": "of the host", "stat -c %u /bin/busybox /etc/hosts": "0\n0"})
	if mode := d.inspect("free", ".HostConfig.UsernsMode"); mode != "host" {
		t.Errorf("its mode is %q", mode)
	}
}

// testUsernsRefusals has what makes no sense in a user namespace refused, but not in the
// host's.
func testUsernsRefusals(t *testing.T, d *dock, _ string) {
	for _, c := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--privileged"}, "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"},
		{[]string{"--network", "host"}, "cannot share the host's network namespace when user namespaces are enabled"},
		{[]string{"--pid", "host"}, "cannot share the host PID namespace when user namespaces are enabled"},
	} {
		if r := d.run(nil, append(append([]string{"run", "--rm"}, c.flags...), "busybox", "true")...); r.code == 0 || !strings.Contains(r.errs, c.says) {
			t.Errorf("%v: exit %d: %s", c.flags, r.code, r.errs)
		}
		d.must(append(append([]string{"run", "--rm", "--userns", "host"}, c.flags...), "busybox", "true")...)
	}
	if out := d.must("ps", "-aq"); out != "" {
		t.Errorf("a refused container is there: %s", out)
	}
}

// testUsernsNetwork has networks, names and published ports be as they are without.
func testUsernsNetwork(t *testing.T, d *dock, _ string) {
	d.network("front")
	port := freeTCP(t)
	d.start("web", "--network", "front", "-p", port+":80", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 80; done")
	d.start("client", "--network", "front")
	d.eventually("the port", func() bool { return dial("127.0.0.1:"+port) == "served\n" })
	d.eventually("the other by its name", func() bool { return d.sh("client", "nc -w 3 web 80") == "served" })
	d.network("back")
	d.must("network", "connect", "back", "client")
	if out := d.sh("client", "ls /sys/class/net"); out != "eth0\neth1\nlo" {
		t.Errorf("devices after connecting: %q", out)
	}
	if out := d.must("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"); out != "lo" {
		t.Errorf("devices without a network: %q", out)
	}
}

// testUsernsVolumes has files of volumes belong to whom they did, and on the host to whom
// that stands for.
func testUsernsVolumes(t *testing.T, d *dock, root string) {
	t.Cleanup(func() { d.run(nil, "volume", "rm", "-f", "kept") })
	d.must("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "touch /data/of-root && mkdir /data/app && busybox chown app:app /data/app")
	d.must("run", "--rm", "-v", "kept:/data", "-u", "app", "busybox", "sh", "-c", "echo mine >/data/app/file")
	if out := d.must("run", "--rm", "-v", "kept:/v:ro", "busybox", "sh", "-c", "stat -c %u:%g /v /v/seed /v/of-root /v/app/file"); out != "0:0\n0:0\n0:0\n1000:1000" {
		t.Errorf("owners in another container: %q", out)
	}
	dir := d.must("volume", "inspect", "--format", "{{.Mountpoint}}", "kept")
	for name, want := range map[string]string{"": root, "seed": root, "of-root": root, "app/file": plus(t, root, 1000)} {
		if got := ofFile(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%q is of %s on the host, want %s", name, got, want)
		}
	}
	made := filepath.Join(t.TempDir(), "made")
	d.must("run", "--rm", "-v", made+":/m", "busybox", "touch", "/m/x")
	if got := ofFile(t, filepath.Join(made, "x")); got != root {
		t.Errorf("in a directory that was made for it a file is of %s", got)
	}
}

// testUsernsSharing has containers share networks and processes with each other, but not
// over the border of the host's user namespace.
func testUsernsSharing(t *testing.T, d *dock, _ string) {
	d.start("first", "--cap-add", "NET_ADMIN", "--ipc", "shareable", "busybox", "sleep", "601")
	d.start("free", "--userns", "host", "busybox", "sleep", "602")
	if out := d.must("run", "--rm", "--network", "container:first", "--pid", "container:first", "--ipc", "container:first", "busybox", "sh", "-c", "ls /sys/class/net; ps | grep -c 'sleep 60[1]'"); out != "eth0\nlo\n1" {
		t.Errorf("sharing all: %q", out)
	}
	for _, kind := range []string{"pid", "ipc"} { // alone, with a network of its own
		if out := d.must("run", "--rm", "--"+kind, "container:first", "busybox", "sh", "-c", "ls /sys/class/net; readlink /proc/self/ns/"+kind); out != "eth0\nlo\n"+d.sh("first", "readlink /proc/self/ns/"+kind) {
			t.Errorf("sharing %s: %q", kind, out)
		}
	}
	d.start("watcher", "--pid", "container:first", "--cap-add", "NET_ADMIN") // who has less may not look into the other
	if out := d.sh("watcher", "kill -0 1 && cat /proc/1/root/data/seed"); out != "of the image" {
		t.Errorf("a process that is shared: %q", out)
	}
	d.must("restart", "-t", "0", "watcher")
	for says, flags := range map[string][]string{"user namespace and cannot share the network": {"--network", "container:free"}, "in another user namespace": {"--pid", "container:free"}} {
		r := d.run(nil, append(append([]string{"run", "--rm", "--name", "no"}, flags...), "busybox", "true")...)
		if r.code == 0 || !strings.Contains(r.errs, says) {
			t.Errorf("%v: exit %d: %s", flags, r.code, r.errs)
		}
		d.run(nil, "rm", "-f", "no")
	}
}

// testUsernsKill has containers stay what they are when the engine is killed, and when it
// comes back without the flag.
func testUsernsKill(t *testing.T, d *dock, root string) {
	d.start("box", "--restart", "always", "-v", "/data", "busybox", "sh", "-c", "touch /data/mine /mine; exec sleep 600")
	d.eventually("its files", func() bool { return d.sh("box", "stat -c %u /mine") == "0" })
	pid := d.inspect("box", ".State.Pid")
	d.cloud.Kill()
	flags := d.cloud.Flags
	for i := 0; i+1 < len(flags); i++ {
		if flags[i] == idmap.Flag {
			d.cloud.Flags = append(append([]string{}, flags[:i]...), flags[i+2:]...)
		}
	}
	t.Cleanup(func() { d.cloud.Flags = flags })
	d.cloud.Up()
	if now := d.inspect("box", ".State.Pid"); now != pid {
		t.Errorf("process %s is now %s", pid, now)
	}
	check := func() {
		t.Helper()
		d.eventually("it to be up", func() bool { return d.sh("box", "id -u") == "0" })
		if got := ofProcess(t, d.inspect("box", ".State.Pid")); got != root {
			t.Errorf("its root is %s, want %s", got, root)
		}
		d.expect("box", map[string]string{"stat -c %u:%g /data/mine /mine /bin/busybox": "0:0\n0:0\n0:0", "touch /new && rm /new && echo writable": "writable"})
	}
	check()
	d.must("restart", "-t", "0", "box")
	check()
	if out := d.must("run", "--rm", "busybox", "cat", "/proc/self/uid_map"); strings.Fields(out)[1] != "0" {
		t.Errorf("a new container's users: %s", out)
	}
	if out := d.must("info", "--format", "{{.SecurityOptions}}"); strings.Contains(out, "userns") {
		t.Errorf("security options %s", out)
	}
}
