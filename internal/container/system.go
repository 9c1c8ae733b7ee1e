package container

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/errs"
)

// Info describes the engine and its machine.
func (d *Daemon) Info(ctx context.Context) (system.Info, error) {
	imgs, err := d.Images(ctx)
	if err != nil {
		return system.Info{}, err
	}
	i := system.Info{ID: d.key, Images: len(imgs), Driver: d.engine.Snapshotter, DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: []string{driverBridge, "host", driverMacvlan, "null"}, Log: []string{LogJSON, LogLocal, LogNone}},
		MemoryLimit: true, SwapLimit: hasSwapLimit(), CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true, IPv4Forwarding: true,
		NGoroutines: runtime.NumGoroutine(), SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: LogLocal, CgroupDriver: "cgroupfs", CgroupVersion: "1",
		NEventsListener: d.Events.listeners(), OSType: "linux", Architecture: machine(), NCPU: runtime.NumCPU(), DockerRootDir: d.cfg.Dir, Runtimes: map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "runc"}}},
		DefaultRuntime: "runc", LiveRestoreEnabled: true, SecurityOptions: []string{"name=seccomp,profile=builtin"}, Labels: []string{}, Warnings: nil, IndexServerAddress: "https://index.docker.io/v1/", CDISpecDirs: []string{}}
	i.Swarm.LocalNodeState = "inactive"
	i.FirewallBackend = &system.FirewallInfo{Driver: "nftables"}
	i.Containerd = &system.ContainerdInfo{Namespaces: system.ContainerdNamespaces{Containers: engine.Namespace, Plugins: engine.Namespace}}
	if d.cfg.Remap != nil {
		i.SecurityOptions = append(i.SecurityOptions, "name=userns")
	}
	if unified() {
		i.CgroupVersion = "2"
		i.SecurityOptions = append(i.SecurityOptions, "name=cgroupns")
	}
	i.KernelVersion, i.OperatingSystem, i.OSVersion = kernel(), release("PRETTY_NAME"), release("VERSION_ID")
	i.Name, _ = os.Hostname()
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		i.MemTotal = int64(si.Totalram) * int64(si.Unit)
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		i.NFd = len(fds)
	}
	for _, c := range d.list() {
		i.Containers++
		switch st := c.record().State; {
		case st.Status == container.StatePaused:
			i.ContainersPaused++
		case st.Running():
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	return i, nil
}

func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Kernel is the kernel's version.
func Kernel() string { return kernel() }

func release(key string) string {
	raw, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// Top lists a container's processes, as ps shows them.
func (d *Daemon) Top(ctx context.Context, ref, args string) (container.TopResponse, error) {
	none := container.TopResponse{}
	c, err := d.find(ref)
	if err != nil {
		return none, err
	}
	task, err := c.running()
	if err != nil {
		return none, err
	}
	procs, err := task.Pids(d.request(ctx))
	if err != nil {
		return none, err
	}
	if args == "" {
		args = "-ef"
	}
	argv := strings.Fields(args)
	for _, a := range argv {
		// Only columns and selection: ps itself reads nothing else, but an argument
		// that names a file would be read by it.
		if strings.ContainsAny(a, "/\\\"'`$") {
			return none, errs.Invalidf("ps arguments %q are not allowed", a)
		}
	}
	pids := map[string]bool{}
	for _, p := range procs {
		pids[strconv.Itoa(int(p.Pid))] = true
	}
	only := append(slices.Clone(argv), "-q"+strings.Join(slices.Collect(maps.Keys(pids)), ","))
	out, err := exec.CommandContext(ctx, "ps", only...).Output()
	if err != nil { // not every ps, and not with every option
		out, err = exec.CommandContext(ctx, "ps", argv...).Output()
	}
	if err != nil {
		return none, fmt.Errorf("error running ps: %w", err)
	}
	return psTable(out, pids)
}

func psTable(out []byte, pids map[string]bool) (container.TopResponse, error) {
	t := container.TopResponse{Processes: [][]string{}}
	lines := bufio.NewScanner(bytes.NewReader(out))
	at := -1
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if at < 0 {
			t.Titles = f
			if at = slices.Index(f, "PID"); at < 0 {
				return t, errs.Invalidf("Couldn't find PID field in ps output")
			}
			continue
		}
		if len(f) <= at || !pids[f[at]] {
			continue
		}
		if n := len(t.Titles); len(f) > n { // the command has spaces
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		t.Processes = append(t.Processes, f)
	}
	return t, lines.Err()
}

// Stats is one reading of what a container uses; nil when it does not run.
func (d *Daemon) Stats(ctx context.Context, ref string) (*container.StatsResponse, error) {
	c, err := d.find(ref)
	if err != nil {
		return nil, err
	}
	r := c.record()
	s := &container.StatsResponse{Name: "/" + r.Name, ID: r.ID}
	task, err := c.running()
	if err != nil {
		return s, nil // as upstream: zeroes
	}
	m, err := task.Metrics(d.request(ctx))
	if err != nil {
		return nil, err
	}
	any, err := typeurl.UnmarshalAny(m.Data)
	if err != nil {
		return nil, err
	}
	s.Read, s.NumProcs = time.Now(), 0
	switch m := any.(type) {
	case *v1.Metrics:
		statsV1(s, m)
	case *v2.Metrics:
		statsV2(s, m)
	}
	s.CPUStats.OnlineCPUs = uint32(runtime.NumCPU())
	s.CPUStats.SystemUsage, err = systemCPU()
	if limit := s.MemoryStats.Limit; limit == 0 || limit > 1<<60 {
		var si unix.Sysinfo_t
		if unix.Sysinfo(&si) == nil {
			s.MemoryStats.Limit = si.Totalram * uint64(si.Unit)
		}
	}
	s.Networks = netStats(r.State.Pid, r.HostConfig.NetworkMode.IsHost())
	return s, err
}

func statsV1(s *container.StatsResponse, m *v1.Metrics) {
	if c := m.GetCPU(); c != nil {
		s.CPUStats.CPUUsage = container.CPUUsage{TotalUsage: c.GetUsage().GetTotal(), PercpuUsage: c.GetUsage().GetPerCPU(), UsageInKernelmode: c.GetUsage().GetKernel(), UsageInUsermode: c.GetUsage().GetUser()}
		s.CPUStats.ThrottlingData = container.ThrottlingData{Periods: c.GetThrottling().GetPeriods(), ThrottledPeriods: c.GetThrottling().GetThrottledPeriods(), ThrottledTime: c.GetThrottling().GetThrottledTime()}
	}
	if u := m.GetMemory(); u != nil {
		s.MemoryStats = container.MemoryStats{Usage: u.GetUsage().GetUsage(), MaxUsage: u.GetUsage().GetMax(), Failcnt: u.GetUsage().GetFailcnt(), Limit: u.GetUsage().GetLimit(),
			Stats: map[string]uint64{"total_inactive_file": u.GetTotalInactiveFile(), "cache": u.GetCache(), "rss": u.GetRSS()}}
	}
	s.PidsStats = container.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	for _, e := range m.GetBlkio().GetIoServiceBytesRecursive() {
		s.BlkioStats.IoServiceBytesRecursive = append(s.BlkioStats.IoServiceBytesRecursive, container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
}

func statsV2(s *container.StatsResponse, m *v2.Metrics) {
	if c := m.GetCPU(); c != nil {
		s.CPUStats.CPUUsage = container.CPUUsage{TotalUsage: c.GetUsageUsec() * 1000, UsageInKernelmode: c.GetSystemUsec() * 1000, UsageInUsermode: c.GetUserUsec() * 1000}
		s.CPUStats.ThrottlingData = container.ThrottlingData{Periods: c.GetNrPeriods(), ThrottledPeriods: c.GetNrThrottled(), ThrottledTime: c.GetThrottledUsec() * 1000}
	}
	if u := m.GetMemory(); u != nil {
		s.MemoryStats = container.MemoryStats{Usage: u.GetUsage(), Limit: u.GetUsageLimit(), Stats: map[string]uint64{"inactive_file": u.GetInactiveFile(), "anon": u.GetAnon(), "file": u.GetFile()}}
	}
	s.PidsStats = container.PidsStats{Current: m.GetPids().GetCurrent(), Limit: m.GetPids().GetLimit()}
	for _, e := range m.GetIo().GetUsage() {
		s.BlkioStats.IoServiceBytesRecursive = append(s.BlkioStats.IoServiceBytesRecursive,
			container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "read", Value: e.Rbytes}, container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: "write", Value: e.Wbytes})
	}
}

// systemCPU is what all processors of the machine have worked, in ns.
func systemCPU() (uint64, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var sum uint64
	for i, f := range strings.Fields(line) {
		if n, err := strconv.ParseUint(f, 10, 64); err == nil && i >= 1 && i <= 7 {
			sum += n
		}
	}
	return sum * 1e9 / 100, nil
}

// netStats counts what a container's devices have carried; the host's are not its own.
func netStats(pid int, host bool) map[string]container.NetworkStats {
	if host {
		return nil
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil // it has just ended
	}
	out := map[string]container.NetworkStats{}
	for line := range strings.Lines(string(raw)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out[name] = container.NetworkStats{RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3), TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)}
	}
	return out
}
