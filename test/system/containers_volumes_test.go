package system

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// mountedVolume tells whether something is mounted where a volume's files are.
func (d *dock) mountedVolume(name string) bool {
	d.t.Helper()
	return bytes.Contains(must[[]byte](d.t)(os.ReadFile("/proc/self/mounts")), []byte(" "+filepath.Join(d.cloud.Dir, "containers", "volumes", name, "_data")+" "))
}

// TestContainerVolumeOptions mounts what a volume's options say while containers run.
func TestContainerVolumeOptions(t *testing.T) {
	d := newDock(t)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "f"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bind := []string{"--opt", "type=none", "--opt", "device=" + host, "--opt", "o=bind"}
	for _, part := range []struct {
		name string
		f    func(*testing.T, *dock, string, []string)
	}{{"refusals", testVolumeRefusals}, {"memory", testVolumeMemory}, {"bind", testVolumeBind}, {"kill", testVolumeKill}} {
		t.Run(part.name, func(t *testing.T) { part.f(t, &dock{t: t, cloud: d.cloud, cli: d.cli}, host, bind) })
	}
	d.must(append(append([]string{"volume", "create"}, bind...), "last")...)
	d.start("holder", "-v", "last:/v")
	d.cloud.Reset()
	if got, err := os.ReadFile(filepath.Join(host, "f")); err != nil || string(got) != "of the host\n" {
		t.Errorf("what was mounted when all was reset: %q, %v", got, err)
	}
	if d.mountedVolume("last") {
		t.Error("it is still mounted")
	}
}

func testVolumeRefusals(t *testing.T, d *dock, _ string, _ []string) {
	for opt, says := range map[string]string{
		"foo=bar":    `create no: invalid option: "foo"`,
		"type=tmpfs": `create no: missing required option: "device"`,
		"size=10m":   "create no: quota size requested but no quota support",
	} {
		if r := d.run(nil, "volume", "create", "--opt", opt, "no"); r.code == 0 || !strings.Contains(r.errs, says) {
			t.Errorf("%s: %+v", opt, r)
		}
		if r := d.run(nil, "run", "--rm", "--mount", "type=volume,src=no,dst=/v,volume-opt="+opt, "busybox", "true"); r.code == 0 || !strings.Contains(r.errs, says) {
			t.Errorf("%s of a container: %+v", opt, r)
		}
	}
	if out := d.must("volume", "ls", "-q"); out != "" {
		t.Errorf("what was refused is there: %s", out)
	}
	d.must("volume", "create", "--opt", "type=none", "--opt", "device=/nowhere/at/all", "--opt", "o=bind", "lost")
	if r := d.run(nil, "run", "--name", "late", "-v", "lost:/v", "busybox", "true"); r.code == 0 || !strings.Contains(r.errs, "error while mounting volume") || !strings.Contains(r.errs, "failed to mount local volume") {
		t.Errorf("what cannot be mounted: %+v", r)
	}
	if r := d.run(nil, "volume", "rm", "lost"); r.code == 0 || !strings.Contains(r.errs, "volume is in use") {
		t.Errorf("removing it while a container has it: %+v", r)
	}
	d.must("rm", "late")
	d.must("volume", "rm", "lost")
}

func testVolumeMemory(t *testing.T, d *dock, _ string, _ []string) {
	d.must("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,uid=1000,mode=700", "ram")
	d.must("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=2m", "ram") // is there
	if out := d.must("volume", "inspect", "--format", "{{json .Options}}", "ram"); out != `{"device":"tmpfs","o":"size=1m,uid=1000,mode=700","type":"tmpfs"}` {
		t.Errorf("its options: %s", out)
	}
	d.must("create", "--name", "idle", "-v", "ram:/v", "busybox", "true")
	if d.mountedVolume("ram") {
		t.Error("it is mounted before a container runs")
	}
	d.start("one", "-v", "ram:/v")
	d.start("two", "--mount", "type=volume,src=ram,dst=/v,readonly")
	if out := d.sh("one", "stat -c %u:%a /v; echo x >/v/x; dd if=/dev/zero of=/v/big bs=1M count=3 2>&1 | grep -c 'No space'; rm /v/big"); out != "1000:700\n1" {
		t.Errorf("in the first: %q", out)
	}
	d.must("rm", "-f", "one")
	if out := d.sh("two", "cat /v/x; touch /v/y 2>&1"); !strings.HasPrefix(out, "x\ntouch: ") {
		t.Errorf("in the second: %q", out)
	}
	d.must("rm", "-f", "two")
	d.eventually("it to be unmounted", func() bool { return !d.mountedVolume("ram") })
	if out := d.must("run", "--rm", "-v", "ram:/v", "busybox", "ls", "/v"); out != "" {
		t.Errorf("files stayed: %q", out)
	}
	d.must("rm", "idle")
	d.must("volume", "prune", "-f")
	if out := d.must("volume", "ls", "-q"); out != "ram" {
		t.Errorf("after prune, which leaves those with options: %q", out)
	}
	d.must("volume", "rm", "ram")
}

func testVolumeBind(t *testing.T, d *dock, host string, bind []string) {
	d.must(append(append([]string{"volume", "create"}, bind...), "here")...)
	d.must("create", "--name", "idle", "-v", "here:/v", "busybox", "true")
	if got := owners(t, d.run(nil, "cp", "idle:/v", "-").out); got["v/f"] == "" {
		t.Errorf("out of a container that does not run: %v", got)
	}
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, []byte("copied"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.must("cp", in, "idle:/v/in")
	if got, err := os.ReadFile(filepath.Join(host, "in")); err != nil || string(got) != "copied" {
		t.Errorf("into it: %q, %v", got, err)
	}
	if out := d.must("run", "--rm", "-v", "here:/data", "busybox", "sh", "-c", "ls /data; echo more >/data/new"); out != "f\nin" {
		t.Errorf("files: %q", out) // nothing of the image, since there are some
	}
	d.must("rm", "idle")
	d.must("run", "--rm", "--mount", "type=volume,dst=/v,volume-opt=type=none,volume-opt=device="+host+",volume-opt=o=bind", "busybox", "cat", "/v/f")
	if out := d.must("system", "df", "-v", "--format", "{{json .Volumes}}"); strings.Contains(out, `"here"`) {
		t.Errorf("the host's files are counted: %s", out)
	}
	d.eventually("it to be unmounted", func() bool { return !d.mountedVolume("here") })
	d.must("volume", "rm", "here")
	for name, want := range map[string]string{"f": "of the host\n", "new": "more\n"} {
		if got, err := os.ReadFile(filepath.Join(host, name)); err != nil || string(got) != want {
			t.Errorf("after the volumes were removed: %s: %q, %v", name, got, err)
		}
	}
}

// testVolumeKill has volumes be as they were when the engine is killed, and unmounted by
// the next one if no container is left.
func testVolumeKill(t *testing.T, d *dock, _ string, bind []string) {
	d.must("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "ram")
	d.must(append(append([]string{"volume", "create"}, bind...), "here")...)
	d.start("stays", "-v", "ram:/v", "busybox", "sh", "-c", "echo kept >/v/x; exec sleep 600")
	d.start("ends", "-v", "here:/v")
	pid := must[int](t)(strconv.Atoi(d.inspect("ends", ".State.Pid")))
	d.eventually("a file", func() bool { return d.sh("stays", "cat /v/x") == "kept" })
	d.cloud.Kill()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.cloud.Up()
	if out := d.must("run", "--rm", "-v", "ram:/v", "busybox", "cat", "/v/x"); out != "kept" {
		t.Errorf("in another container: %q", out)
	}
	d.eventually("the other to be unmounted", func() bool { return !d.mountedVolume("here") })
	if out := d.sh("stays", "cat /v/x"); out != "kept" || !d.mountedVolume("ram") {
		t.Errorf("in the one that stayed: %q", out)
	}
	d.must("rm", "-f", "stays", "ends")
	d.eventually("all to be unmounted", func() bool { return !d.mountedVolume("ram") })
	d.must("volume", "rm", "ram", "here")
}
