package docker

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"

	"github.com/strata-cloud/strata/internal/errs"
)

// What a container has that asks for nothing.
const (
	defaultMemory = 512 << 20
	defaultCPUs   = 1e9 // in billionths
	maxPids       = 4096
	maxLogSize    = 20 << 20
	maxLogFiles   = 5
)

// grantable are the capabilities that engines give without being asked
// (moby, oci/caps/defaults.go). More are not to be had.
var grantable = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

// judge refuses what reaches the node, other projects or beyond what is counted, and
// settles what is left open.
func judge(req *container.CreateRequest) error {
	if req.Config == nil {
		return errs.Invalidf("Config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	for _, check := range []func(*container.CreateRequest) error{judgeNode, judgeNamespaces, judgeKernel, judgeStorage, judgeLog, judgeResources} {
		if err := check(req); err != nil {
			return err
		}
	}
	return nil
}

// refusals gives the first of what there is.
func refusals(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

func no(bad bool, what string) error {
	if bad {
		return errs.Forbiddenf("%s is not allowed here: it reaches the machine that the container is on", what)
	}
	return nil
}

// judgeNode refuses what is the node's.
func judgeNode(req *container.CreateRequest) error {
	h := req.HostConfig
	ports := false
	for _, b := range h.PortBindings {
		ports = ports || len(b) > 0
	}
	if ports || h.PublishAllPorts {
		return errs.Forbiddenf("publishing a port (-p, -P) is not allowed here: a container has an address of its own on its network; give that a floating IP, and open the port in its security group")
	}
	return refusals(
		no(h.Privileged, "a privileged container"),
		no(len(h.Devices)+len(h.DeviceRequests)+len(h.DeviceCgroupRules) > 0, "a device"),
		no(len(h.Links) > 0, "a link to another container (--link)"),
		no(len(h.VolumesFrom) > 0, "taking volumes from another container (--volumes-from)"),
		no(h.CgroupParent != "" || h.Cgroup != "", "a control group of the node"),
		no(h.Runtime != "" && h.Runtime != "runc", "another runtime"),
		no(!h.Isolation.IsDefault(), "an isolation"),
		no(len(h.StorageOpt) > 0, "a storage option"),
		no(len(h.Annotations) > 0, "an annotation"),
		no(slices.ContainsFunc(h.ExtraHosts, func(e string) bool { return strings.HasSuffix(e, "host-gateway") }), "host-gateway"),
	)
}

// judgeNamespaces refuses those of the node and of other containers.
func judgeNamespaces(req *container.CreateRequest) error {
	h := req.HostConfig
	ipc := h.IpcMode == "" || h.IpcMode.IsPrivate() || h.IpcMode.IsNone() || h.IpcMode.IsShareable()
	if err := refusals(
		no(h.NetworkMode.IsHost() || h.NetworkMode.IsContainer(), "the network of the node or of another container"),
		no(h.PidMode != "", "the processes' namespace of the node or of another container"),
		no(!ipc, "the IPC namespace of the node or of another container"),
		no(h.UTSMode != "", "the host name of the node"),
		no(h.UsernsMode != "", "a choice of the user namespace"),
		no(h.CgroupnsMode != "" && !h.CgroupnsMode.IsPrivate(), "the control groups' namespace of the node"),
	); err != nil {
		return err
	}
	h.CgroupnsMode = container.CgroupnsModePrivate
	return nil
}

// judgeKernel refuses rights beyond the usual.
func judgeKernel(req *container.CreateRequest) error {
	h := req.HostConfig
	for _, c := range h.CapAdd {
		if !slices.Contains(grantable, strings.TrimPrefix(strings.ToUpper(c), "CAP_")) {
			return no(true, "the capability "+c)
		}
	}
	for _, o := range h.SecurityOpt {
		if key, value, _ := strings.Cut(strings.Replace(o, ":", "=", 1), "="); key != "no-new-privileges" || value != "" && value != "true" && value != "false" {
			return no(true, "the security option "+o)
		}
	}
	for k := range h.Sysctls {
		if !strings.HasPrefix(k, "net.ipv4.") && !strings.HasPrefix(k, "net.ipv6.") {
			return no(true, "the kernel's parameter "+k)
		}
	}
	for _, u := range h.Ulimits {
		if slices.Contains([]string{"nice", "rtprio", "rttime"}, u.Name) { // a real-time process has a processor to itself
			return no(true, "the limit "+u.Name+", which lets processes go before others,")
		}
	}
	return refusals(
		no(h.MaskedPaths != nil || h.ReadonlyPaths != nil, "a choice of the kernel's paths (systempaths)"),
		no(h.OomScoreAdj < 0 || h.OomKillDisable != nil && *h.OomKillDisable, "being spared when memory runs out"),
	)
}

// tmpfsOptions are those that are about the file system itself; "" is none.
var tmpfsOptions = []string{"", "rw", "ro", "exec", "noexec", "nosuid", "nodev", "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"}

// bindOptions are those that tell no other mount of this one; "" is none.
var bindOptions = []string{"", "rw", "ro", "z", "Z", "nocopy", "cached", "consistent", "delegated"}

// judgeStorage refuses paths of the node.
func judgeStorage(req *container.CreateRequest) error {
	h := req.HostConfig
	if err := no(h.VolumeDriver != "", "a volume driver"); err != nil {
		return err
	}
	for _, b := range h.Binds {
		parts := strings.SplitN(b, ":", 3)
		if err := mountOf(parts[0]); err != nil {
			return err
		}
		for o := range strings.SplitSeq(strings.Join(parts[min(len(parts), 2):], ""), ",") {
			if !slices.Contains(bindOptions, o) {
				return no(true, "the option "+o+" of a volume")
			}
		}
	}
	for _, options := range h.Tmpfs {
		for o := range strings.SplitSeq(options, ",") {
			if key, _, _ := strings.Cut(o, "="); !slices.Contains(tmpfsOptions, key) {
				return no(true, "the option "+o+" of a tmpfs")
			}
		}
	}
	for _, m := range h.Mounts {
		switch m.Type {
		case mount.TypeTmpfs:
		case mount.TypeVolume:
			if err := mountOf(m.Source); err != nil {
				return err
			}
			if o := m.VolumeOptions; o != nil && (o.Subpath != "" || o.DriverConfig != nil && (m.Source == "" || o.DriverConfig.Name != "" && o.DriverConfig.Name != volumeDriver)) {
				return no(true, "a volume driver, or a part of a volume,")
			}
		default:
			return no(true, "a mount of the type "+string(m.Type))
		}
	}
	return nil
}

func mountOf(source string) error {
	if strings.HasPrefix(source, "/") || strings.HasPrefix(source, ".") || strings.HasPrefix(source, "~") {
		return no(true, "a path of the node ("+source+")")
	}
	return nil
}

// judgeLog bounds what a container's log takes of the node's disk.
func judgeLog(req *container.CreateRequest) error {
	l := req.HostConfig.LogConfig
	if l.Type != "" && l.Type != "local" && l.Type != "json-file" {
		return no(true, "the logging driver "+l.Type)
	}
	for k, v := range l.Config {
		switch k {
		case "max-size":
			if n, err := units.RAMInBytes(v); err != nil || n <= 0 || n > maxLogSize {
				return errs.Forbiddenf("a file of a log has at most %s here", units.BytesSize(maxLogSize))
			}
		case "max-file":
			if n, err := strconv.Atoi(v); err != nil || n < 1 || n > maxLogFiles {
				return errs.Forbiddenf("a log has at most %d files here", maxLogFiles)
			}
		default:
			return errs.Invalidf("unknown log opt '%s'", k)
		}
	}
	return nil
}

// judgeResources settles what is counted: memory, and processors by --cpus.
func judgeResources(req *container.CreateRequest) error {
	h := req.HostConfig
	weights := len(h.BlkioWeightDevice) + len(h.BlkioDeviceReadBps) + len(h.BlkioDeviceWriteBps) + len(h.BlkioDeviceReadIOps) + len(h.BlkioDeviceWriteIOps)
	if err := refusals(
		no(h.CPUShares != 0 || h.CPUQuota != 0 || h.CPUPeriod != 0 || h.CPURealtimePeriod != 0 || h.CPURealtimeRuntime != 0, "a share of the processors other than by --cpus"),
		no(h.CpusetCpus != "" || h.CpusetMems != "", "a choice of processors"),
		no(h.BlkioWeight != 0 || weights > 0, "a share of the disks"),
		no(h.MemorySwappiness != nil && *h.MemorySwappiness >= 0, "a setting of the node's memory"),
	); err != nil {
		return err
	}
	if h.Memory < 0 || h.NanoCPUs < 0 {
		return errs.Invalidf("a limit cannot be negative")
	}
	if h.Memory == 0 {
		h.Memory = defaultMemory
	}
	if h.MemorySwap < 0 || h.MemorySwap > 2*h.Memory {
		return errs.Forbiddenf("unlimited swap is not allowed here: a container has at most as much as memory")
	}
	if h.NanoCPUs == 0 {
		h.NanoCPUs = defaultCPUs
	}
	if h.PidsLimit == nil || *h.PidsLimit <= 0 {
		n := int64(maxPids)
		h.PidsLimit = &n
	}
	if *h.PidsLimit > maxPids {
		return errs.Forbiddenf("a container has at most %d processes here", maxPids)
	}
	return nil
}

// need is what placement and quotas count: whole processors and MiB.
func need(h *container.HostConfig) (vcpus, memoryMiB int) {
	const mib = 1 << 20
	return int((h.NanoCPUs + 1e9 - 1) / 1e9), int((h.Memory + mib - 1) / mib)
}

// wish is a network that is asked for.
type wish struct {
	ref, fixedIP string
	groups       []string
	aliases      []string
}

// aliasRE is a name of one letter, which a container's own is not.
var aliasRE = regexp.MustCompile(`^[a-zA-Z0-9]$`)

// maxAliases bounds the names that a container takes on a network.
const maxAliases = 32

// OptionGroups is the driver option of a network that names security groups.
const OptionGroups = "security-groups"

// wishes reads the networks. None and auto: the project's only one.
func wishes(req *container.CreateRequest) (list []wish, auto bool, err error) {
	mode := string(req.HostConfig.NetworkMode)
	given := map[string]*network.EndpointSettings{}
	if req.NetworkingConfig != nil {
		given = req.NetworkingConfig.EndpointsConfig
	}
	switch mode {
	case "none":
		if len(given) > 1 || len(given) == 1 && given["none"] == nil {
			return nil, false, errs.Invalidf("conflicting options: a container without a network cannot be on one")
		}
		return nil, false, nil
	case "", "default", "bridge":
		for _, name := range []string{"default", "bridge"} {
			if s := given[name]; s != nil {
				w, err := readWish("", s)
				return []wish{w}, true, err
			}
		}
		return nil, true, nil
	}
	names := []string{mode} // first: it has the way out
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if name != mode {
			names = append(names, name)
		}
	}
	for _, name := range names {
		w, err := readWish(name, given[name])
		if err != nil {
			return nil, false, err
		}
		list = append(list, w)
	}
	return list, false, nil
}

func readWish(ref string, s *network.EndpointSettings) (wish, error) {
	w := wish{ref: ref}
	if s == nil {
		return w, nil
	}
	if err := refusals(no(len(s.Links) > 0, "a link to another container"), no(s.MacAddress != "", "a MAC address; the network service gives one")); err != nil {
		return w, err
	}
	for _, a := range s.Aliases {
		if !nameRE.MatchString(a) && !aliasRE.MatchString(a) {
			return w, errs.Invalidf("invalid alias %q: only [a-zA-Z0-9_.-] are allowed", a)
		}
		if !slices.Contains(w.aliases, a) {
			w.aliases = append(w.aliases, a)
		}
	}
	if len(w.aliases) > maxAliases {
		return w, errs.Invalidf("a container has at most %d aliases on a network", maxAliases)
	}
	if c := s.IPAMConfig; c != nil {
		if c.IPv4Address != "" && c.IPv6Address != "" || len(c.LinkLocalIPs) > 0 {
			return w, errs.Invalidf("a container asks for at most one address of a network")
		}
		w.fixedIP = c.IPv4Address + c.IPv6Address
	}
	for k, v := range s.DriverOpts {
		if k != OptionGroups {
			return w, errs.Invalidf("unknown option %q of a network: there is %s", k, OptionGroups)
		}
		w.groups = strings.Split(v, ",")
	}
	return w, nil
}
