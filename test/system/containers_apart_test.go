package system

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// mounted lists the mount points that a process of this goroutine sees.
func mounted(t *testing.T) string {
	t.Helper()
	return string(must[[]byte](t)(exec.Command("cat", "/proc/self/mountinfo").Output()))
}

// TestContainersApart has shims with mount namespaces of their own, which they have where
// the root is shared.
func TestContainersApart(t *testing.T) {
	cloud.ShareRoot(t)
	d := newDock(t)
	before := mounted(t)
	late := t.TempDir()
	d.must("run", "-d", "--name", "first", "-v", "things:/things", "busybox", "sh", "-c", "echo own > /own; echo volume > /things/v; sleep 600")
	if n := strings.Count(mounted(t), " - overlay ") - strings.Count(before, " - overlay "); n != 0 {
		t.Errorf("%d more overlays are mounted where all see them", n)
	}
	shim := strings.TrimSpace(string(must[[]byte](t)(exec.Command("ps", "-o", "ppid=", "-p", d.inspect("first", ".State.Pid")).Output())))
	if seen := string(must[[]byte](t)(os.ReadFile("/proc/" + shim + "/mountinfo"))); strings.Contains(seen, "nsfs") || strings.Count(seen, d.inspect("first", ".Id")+"/rootfs ") != 1 {
		t.Errorf("the shim sees\n%s", seen)
	}
	d.exported("first")

	// What is mounted later is there for the next container behind the same shim, and
	// what a container mounts in a shared volume is there for the machine.
	d.mounts("mount", "-t", "tmpfs", "late", late)
	t.Cleanup(func() { d.mounts("umount", "-R", late) })
	d.must("run", "--privileged", "-v", late+":/late:shared", "busybox", "sh", "-c", "echo here > /late/file && mkdir /late/inner && mount -t tmpfs inner /late/inner")
	if seen := mounted(t); !strings.Contains(seen, filepath.Join(late, "inner")+" ") {
		t.Error("what a container mounts in a shared volume is not there for the machine")
	}
	if got := d.must("run", "--rm", "-v", late+":/late", "busybox", "cat", "/late/file"); got != "here" {
		t.Errorf("in what was mounted later: %q", got)
	}

	d.mounts("mount", "--make-private", late)
	if r := d.run(nil, "run", "-v", late+":/late:shared", "busybox", "true"); r.code != 125 || !strings.Contains(r.errs, "not a shared mount") {
		t.Errorf("a shared volume of what is private: %+v", r)
	}

	d.cloud.Kill()
	d.cloud.Up()
	d.exported("first")
	if got := d.must("exec", "first", "cat", "/own", "/things/v"); got != "own\nvolume" {
		t.Errorf("after the engine was killed: %q", got)
	}
	d.must("restart", "-t", "0", "first")
	d.exported("first")
	d.cloud.Must("down")
	d.cloud.Up()
	d.exported("first")
	d.cloud.Reset()
	for line := range strings.Lines(mounted(t)) {
		if strings.Contains(line, d.cloud.Dir) {
			t.Errorf("after the reset: %s", line)
		}
	}
}

// exported checks that an archive of a container has its files without the volume's.
func (d *dock) exported(name string) {
	d.t.Helper()
	tar := exec.Command("tar", "-t")
	tar.Stdin = bytes.NewReader([]byte(d.run(nil, "export", name).out))
	names := "\n" + string(must[[]byte](d.t)(tar.Output()))
	if !strings.Contains(names, "\nown\n") || !strings.Contains(names, "\nthings/\n") || strings.Contains(names, "\nthings/v\n") {
		d.t.Errorf("the archive of %s has %q", name, names)
	}
}

// mounts runs mount or umount.
func (d *dock) mounts(args ...string) {
	d.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		d.t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}
