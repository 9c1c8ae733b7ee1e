package container

import (
	"os"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-connections/nat"

	"github.com/strata-cloud/strata/internal/container/logfile"
	"github.com/strata-cloud/strata/internal/errs"
)

// Logging drivers. All keep logs as package logfile does; json-file is the name
// that most compose files give. Of none there is only what clients who are attached
// may not have read yet, and no one else reads it.
const (
	LogLocal = "local"
	LogJSON  = "json-file"
	LogNone  = "none"
)

// The limits of a log for which a client asks nothing else: those of dockerd's
// driver local.
var defaultLog = logfile.Limits{Size: 20 << 20, Files: 5}

// unified tells whether the machine has cgroup v2 alone.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// hasSwapLimit tells whether swap can be limited.
func hasSwapLimit() bool {
	if unified() {
		return true
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

// settle fills in defaults and refuses what cannot be honoured.
func (d *Daemon) settle(r *Record) (warnings []string, err error) {
	if r.HostConfig == nil {
		r.HostConfig = &container.HostConfig{}
	}
	h := r.HostConfig
	if err := unsupported(r.Config, h); err != nil {
		return nil, err
	}
	if err := checkNetMode(r.Config, h); err != nil {
		return nil, err
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return nil, errs.Invalidf("%s", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return nil, errs.Invalidf("can't create 'AutoRemove' container with restart policy")
	}
	if _, err := logLimits(h.LogConfig); err != nil {
		return nil, err
	}
	if r.IDs, err = d.remaps(r); err != nil {
		return nil, err
	}
	defaults(r.Config, h, r.ID)
	return settleResources(h)
}

func defaults(c *container.Config, h *container.HostConfig, id string) {
	if h.NetworkMode == "" || h.NetworkMode == "default" {
		h.NetworkMode = "bridge"
	}
	if c.Hostname == "" && !h.NetworkMode.IsHost() && !h.UTSMode.IsHost() && !h.NetworkMode.IsContainer() {
		c.Hostname = id[:12]
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = LogLocal
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = container.CgroupnsModeHost
		if unified() {
			h.CgroupnsMode = container.CgroupnsModePrivate
		}
	}
	if h.Runtime == "" {
		h.Runtime = "runc"
	}
	if h.PortBindings == nil {
		h.PortBindings = nat.PortMap{}
	}
	if h.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	if h.MaskedPaths == nil {
		h.MaskedPaths = maskedPaths()
	}
	if h.ReadonlyPaths == nil {
		h.ReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
	}
	if c.Entrypoint == nil {
		c.Entrypoint = strslice.StrSlice(nil)
	}
}

func maskedPaths() []string {
	return []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}
}

// unsupported refuses what would otherwise be left out in silence.
func unsupported(c *container.Config, h *container.HostConfig) error {
	no := func(bad bool, what string) error {
		if bad {
			return errs.Invalidf("%s is not supported by this engine", what)
		}
		return nil
	}
	for _, e := range []error{
		no(h.VolumeDriver != "" && h.VolumeDriver != "local", "the volume driver "+h.VolumeDriver),
		no(!h.Isolation.IsDefault(), "the isolation "+string(h.Isolation)),
		no(h.Runtime != "" && h.Runtime != "runc", "the runtime "+h.Runtime),
		no(h.UsernsMode != "" && !h.UsernsMode.IsHost(), "the user namespace "+string(h.UsernsMode)),
		no(h.CgroupParent != "", "a parent control group (--cgroup-parent)"),
		no(h.Cgroup != "", "another container's control group"),
		no(len(h.StorageOpt) > 0, "a storage option"),
		no(len(h.DeviceRequests) > 0, "a device request (--gpus)"),
		no(h.CPURealtimePeriod != 0 || h.CPURealtimeRuntime != 0, "real-time scheduling"),
		no(h.UTSMode != "" && !h.UTSMode.IsHost(), "the UTS namespace "+string(h.UTSMode)),
	} {
		if e != nil {
			return e
		}
	}
	if err := checkCapabilities(h); err != nil {
		return err
	}
	for _, o := range h.SecurityOpt {
		if _, _, err := securityOpt(o); err != nil {
			return err
		}
	}
	return nil
}

// securityOpt reads an option; what has no meaning without the module is accepted.
func securityOpt(o string) (key, value string, err error) {
	key, value, found := strings.Cut(o, "=")
	if !found {
		key, value, _ = strings.Cut(o, ":")
	}
	switch {
	case key == "no-new-privileges" && (value == "" || value == "true"), key == "seccomp" && value != "":
		return key, value, checkProfile(key, value)
	case key == "no-new-privileges" && value == "false", key == "apparmor" && value == "unconfined", key == "label" && value == "disable":
		return "", "", nil
	}
	if key != "no-new-privileges" && key != "seccomp" && key != "apparmor" && key != "label" {
		return "", "", errs.Invalidf("invalid --security-opt 2: %q", o)
	}
	return "", "", errs.Invalidf("the security option %q is not supported by this engine", o)
}

// logLimits reads a container's logging options.
func logLimits(c container.LogConfig) (logfile.Limits, error) {
	l := defaultLog
	if c.Type == LogNone {
		if len(c.Config) > 0 {
			return l, errs.Invalidf("log-opts are not supported by the log driver none")
		}
		return logfile.Limits{Size: 1 << 20, Files: 2}, nil
	}
	if c.Type != "" && c.Type != LogLocal && c.Type != LogJSON {
		return l, errs.Invalidf("error looking up logging plugin %s: plugin %q not found", c.Type, c.Type)
	}
	for k, v := range c.Config {
		switch k {
		case "max-size":
			n, err := parseSize(v)
			if err != nil {
				return l, err
			}
			l.Size = n
		case "max-file":
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 {
				return l, errs.Invalidf("max-file cannot be less than 1")
			}
			l.Files = n
		default:
			return l, errs.Invalidf("unknown log opt '%s' for %s log driver", k, c.Type)
		}
	}
	return l, nil
}

// parseSize reads such as 10m.
func parseSize(s string) (int64, error) {
	bad := errs.Invalidf("invalid size: '%s'", s)
	digits := strings.TrimRight(strings.ToLower(s), "bkmgi")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, bad
	}
	shift := map[string]int{"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}
	by, ok := shift[strings.ToLower(s)[len(digits):]]
	if !ok || n > 1<<62>>by {
		return 0, bad
	}
	return n << by, nil
}

// mergePorts adds the image's ports, and those that are published.
func mergePorts(c *container.Config, img imageConfig) error {
	for p := range img.ExposedPorts {
		port, err := nat.NewPort(nat.SplitProtoPort(p))
		if err != nil {
			return errs.Invalidf("the image exposes %q: %s", p, err)
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = nat.PortSet{}
		}
		c.ExposedPorts[port] = struct{}{}
	}
	return nil
}
