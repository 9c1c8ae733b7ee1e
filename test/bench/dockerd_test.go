package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/wait"
)

// newDockerd starts a dockerd from the files of Debian's packages, with directories and
// a network namespace of its own; why tells what it lacks here.
func newDockerd(t *testing.T, debian string) (e *engine, why string) {
	for _, program := range []string{"iptables", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, "it needs the program " + program
		}
	}
	dir, err := os.MkdirTemp("", "dockerd-")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d-dockerd", os.Getpid())
	ns, _, err := netns.Ensure(name)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	t.Cleanup(func() { removeDockerd(t, dir, name) })
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e = &engine{t: t, name: "dockerd", cli: filepath.Join(debian, "usr/bin/docker"), home: dir, socket: filepath.Join(dir, "docker.sock"), marks: []string{dir}}
	cmd := exec.Command("nsenter", "--net="+filepath.Join(netns.Dir, name), filepath.Join(debian, "usr/sbin/dockerd"),
		"--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+e.socket, "--cgroup-parent", "/"+name)
	cmd.Env = []string{"PATH=" + filepath.Join(debian, "usr/bin") + ":" + filepath.Join(debian, "usr/sbin") + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	e.reach()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = wait.Until(ctx, "dockerd to answer", 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-ended:
			return false, fmt.Errorf("it has ended")
		default:
		}
		res, err := e.client.Get("http://docker/_ping")
		if err == nil {
			res.Body.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		raw, _ := os.ReadFile(log.Name())
		return nil, fmt.Sprintf("%v: %s", err, raw[max(0, len(raw)-500):])
	}
	e.idle = e.pss()
	return e, ""
}

// removeDockerd removes what a dockerd leaves when it has ended.
func removeDockerd(t *testing.T, dir, name string) {
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	var points []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], dir+"/") {
			points = append(points, f[1])
		}
	}
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", p, err)
		}
	}
	if err := netns.Remove(name); err != nil {
		t.Error(err)
	}
	for _, glob := range []string{"/sys/fs/cgroup/*/" + name + "/*/*", "/sys/fs/cgroup/*/" + name + "/*", "/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/" + name + "/*", "/sys/fs/cgroup/" + name} {
		groups, _ := filepath.Glob(glob)
		for _, g := range groups {
			if fi, err := os.Stat(g); err != nil || !fi.IsDir() {
				continue
			}
			if err := os.Remove(g); err != nil {
				t.Error(err)
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// pss is the memory of an engine's processes, in bytes, with their part of what they
// share. Containers' own are not among them.
func (e *engine) pss() (sum int64) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		e.t.Fatal(err)
	}
	for _, p := range entries {
		cmd, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err != nil || !slices.ContainsFunc(e.marks, func(m string) bool { return bytes.Contains(cmd, []byte(m)) }) {
			continue
		}
		raw, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "smaps_rollup")) // it may be gone
		for line := range strings.Lines(string(raw)) {
			if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
				if err != nil {
					e.t.Fatal(err)
				}
				sum += n << 10
			}
		}
	}
	return sum
}
