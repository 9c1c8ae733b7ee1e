package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// settleResources checks limits against each other and the machine.
func settleResources(h *container.HostConfig) (warnings []string, err error) {
	const least = 6 << 20
	if h.Memory > 0 && h.Memory < least {
		return nil, errs.Invalidf("Minimum memory limit allowed is 6MB")
	}
	if h.Memory > 0 && h.MemorySwap > 0 && h.MemorySwap < h.Memory {
		return nil, errs.Invalidf("Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	if h.Memory == 0 && h.MemorySwap > 0 {
		return nil, errs.Invalidf("You should always set the Memory limit when using Memoryswap limit, see usage")
	}
	if h.NanoCPUs > 0 && (h.CPUPeriod > 0 || h.CPUQuota > 0) {
		return nil, errs.Invalidf("Conflicting options: Nano CPUs and CPU Period or CPU Quota cannot both be set")
	}
	if err := checkRanges(h); err != nil {
		return nil, err
	}
	if h.NanoCPUs < 0 || h.Memory < 0 || h.CPUShares < 0 {
		return nil, errs.Invalidf("a limit cannot be negative")
	}
	if h.ShmSize < 0 {
		return nil, errs.Invalidf("SHM size can not be less than 0")
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	if h.Memory > 0 && h.MemorySwap > 0 && !hasSwapLimit() {
		h.MemorySwap = -1
		warnings = append(warnings, "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.")
	}
	if h.BlkioWeight > 0 && !hasDiskWeight() {
		h.BlkioWeight = 0
		warnings = append(warnings, "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
	}
	if h.OomKillDisable != nil && *h.OomKillDisable && unified() {
		h.OomKillDisable = nil
		warnings = append(warnings, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
	}
	return warnings, checkDevices(h)
}

// checkDevices refuses devices that there are not.
func checkDevices(h *container.HostConfig) error {
	for _, rule := range h.DeviceCgroupRules {
		if _, err := deviceRule(rule); err != nil {
			return err
		}
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{h.BlkioDeviceReadBps, h.BlkioDeviceWriteBps, h.BlkioDeviceReadIOps, h.BlkioDeviceWriteIOps} {
		for _, t := range list {
			if _, ok := deviceNumber(t.Path); !ok {
				return errs.Invalidf("the device %s does not exist", t.Path)
			}
		}
	}
	for _, dev := range h.Devices {
		if _, err := os.Stat(dev.PathOnHost); err != nil {
			return errs.Invalidf("error gathering device information while adding custom device %q: no such file or directory", dev.PathOnHost)
		}
	}
	return nil
}

// checkRanges refuses limits that make no sense by themselves or on this machine.
func checkRanges(h *container.HostConfig) error {
	n := runtime.NumCPU()
	swappiness := int64(-1)
	if h.MemorySwappiness != nil {
		swappiness = *h.MemorySwappiness
	}
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{h.NanoCPUs > int64(n)*1e9, fmt.Sprintf("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)},
		{h.CPUPeriod != 0 && (h.CPUPeriod < 1000 || h.CPUPeriod > 1e6), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{h.CPUQuota > 0 && h.CPUQuota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{h.MemoryReservation > 0 && h.Memory > 0 && h.Memory < h.MemoryReservation, "Minimum memory limit can not be less than memory reservation limit, see usage"},
		{swappiness < -1 || swappiness > 100, fmt.Sprintf("Invalid value: %d, valid memory swappiness range is 0-100", swappiness)},
		{h.BlkioWeight > 0 && (h.BlkioWeight < 10 || h.BlkioWeight > 1000), "Range of blkio weight is from 10 to 1000"},
		{h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000, fmt.Sprintf("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)},
	} {
		if c.bad {
			return errs.Invalidf("%s", c.what)
		}
	}
	return nil
}

// hasDiskWeight tells whether disks can be shared by weight.
func hasDiskWeight() bool {
	if unified() {
		return true
	}
	for _, f := range []string{"blkio.bfq.weight", "blkio.weight"} {
		if m, err := filepath.Glob("/sys/fs/cgroup/blkio/*/" + f); err == nil && len(m) > 0 {
			return true
		}
	}
	return false
}

// limits are what a container may use at most.
func limits(h *container.HostConfig) *specs.LinuxResources {
	r := &specs.LinuxResources{Memory: memory(h), CPU: cpu(h)}
	if n := h.PidsLimit; n != nil {
		most := *n
		if most <= 0 {
			most = -1
		}
		r.Pids = &specs.LinuxPids{Limit: &most}
	}
	r.BlockIO = blockIO(h)
	return r
}

// blockIO are limits of disks; nil: none.
func blockIO(h *container.HostConfig) *specs.LinuxBlockIO {
	b := &specs.LinuxBlockIO{}
	if h.BlkioWeight > 0 {
		b.Weight = &h.BlkioWeight
	}
	for _, w := range h.BlkioWeightDevice {
		if n, ok := deviceNumber(w.Path); ok {
			b.WeightDevice = append(b.WeightDevice, specs.LinuxWeightDevice{LinuxBlockIODevice: n, Weight: &w.Weight})
		}
	}
	throttle := func(list []*blkiodev.ThrottleDevice) (out []specs.LinuxThrottleDevice) {
		for _, t := range list {
			if n, ok := deviceNumber(t.Path); ok {
				out = append(out, specs.LinuxThrottleDevice{LinuxBlockIODevice: n, Rate: t.Rate})
			}
		}
		return out
	}
	b.ThrottleReadBpsDevice, b.ThrottleWriteBpsDevice = throttle(h.BlkioDeviceReadBps), throttle(h.BlkioDeviceWriteBps)
	b.ThrottleReadIOPSDevice, b.ThrottleWriteIOPSDevice = throttle(h.BlkioDeviceReadIOps), throttle(h.BlkioDeviceWriteIOps)
	if b.Weight == nil && len(b.WeightDevice)+len(b.ThrottleReadBpsDevice)+len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) == 0 {
		return nil
	}
	return b
}

// deviceNumber tells which device a path is.
func deviceNumber(path string) (specs.LinuxBlockIODevice, bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxBlockIODevice{}, false
	}
	return specs.LinuxBlockIODevice{Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}, true
}

// resources sets limits and devices.
func resources(h *container.HostConfig) oci.SpecOpts {
	return func(ctx context.Context, cl oci.Client, c *containers.Container, s *oci.Spec) error {
		l := limits(h)
		r := s.Linux.Resources
		r.Memory, r.CPU, r.Pids, r.BlockIO = l.Memory, l.CPU, l.Pids, l.BlockIO
		for _, dev := range h.Devices {
			perms := dev.CgroupPermissions
			if perms == "" {
				perms = "rwm"
			}
			if err := oci.WithDevices(dev.PathOnHost, dev.PathInContainer, perms)(ctx, cl, c, s); err != nil {
				return errs.Invalidf("device %s: %s", dev.PathOnHost, err)
			}
		}
		for _, text := range h.DeviceCgroupRules {
			rule, err := deviceRule(text)
			if err != nil {
				return err
			}
			r.Devices = append(r.Devices, rule)
		}
		return nil
	}
}

// deviceRuleRE is such as c 42:* rmw.
var deviceRuleRE = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

func deviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRuleRE.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, errs.Invalidf("invalid device cgroup rule format: '%s'", text)
	}
	number := func(s string) *int64 {
		n := int64(-1) // any
		if s != "*" {
			n, _ = strconv.ParseInt(s, 10, 64)
		}
		return &n
	}
	return specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Major: number(m[2]), Minor: number(m[3]), Access: m[4]}, nil
}

func memory(h *container.HostConfig) *specs.LinuxMemory {
	m := &specs.LinuxMemory{DisableOOMKiller: h.OomKillDisable}
	if h.Memory > 0 {
		m.Limit = &h.Memory
	}
	if h.MemoryReservation > 0 {
		m.Reservation = &h.MemoryReservation
	}
	if h.MemorySwap != 0 && hasSwapLimit() {
		m.Swap = &h.MemorySwap
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness >= 0 {
		v := uint64(*h.MemorySwappiness)
		m.Swappiness = &v
	}
	return m
}

func cpu(h *container.HostConfig) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: h.CpusetCpus, Mems: h.CpusetMems}
	if h.CPUShares > 0 {
		v := uint64(h.CPUShares)
		c.Shares = &v
	}
	quota, period := h.CPUQuota, uint64(h.CPUPeriod)
	if h.NanoCPUs > 0 {
		period = 100000
		quota = h.NanoCPUs * int64(period) / 1e9
	}
	if quota != 0 {
		c.Quota = &quota
	}
	if period != 0 {
		c.Period = &period
	}
	return c
}
