package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/container/reaper"
	"github.com/strata-cloud/strata/internal/errs"
)

// spec says to runc what a container is. netns is the path of its network
// namespace; "" is the host's, as is no userns.
func (d *Daemon) spec(ctx context.Context, r Record, netns string, userns *os.File) (*specs.Spec, error) {
	h := r.HostConfig
	links, err := d.linkEnv(r)
	if err != nil {
		return nil, err
	}
	opts := []oci.SpecOpts{
		oci.WithoutRunMount,
		oci.WithDefaultUnixDevices,
		oci.WithProcessArgs(command(r)...),
		oci.WithHostname(r.Config.Hostname),
		oci.WithDomainname(r.Config.Domainname),
		oci.WithMaskedPaths(h.MaskedPaths),
		oci.WithReadonlyPaths(h.ReadonlyPaths),
		oci.WithDevShmSize(h.ShmSize >> 10),
		oci.WithCgroup("/" + cgroupParent(d.cfg.Name) + "/" + r.ID),
		process(r, links),
		d.joins(r, netns),
		d.mounts(r),
		resources(h),
		remapped(r, userns),
		d.users(r),
		capabilities(h),
		security(h),
	}
	c := &containers.Container{ID: r.ID, Snapshotter: d.engine.Snapshotter, SnapshotKey: r.ID}
	return oci.GenerateSpec(ctx, d.engine.Client, c, opts...)
}

// command is what runs first in a container.
func command(r Record) []string {
	own := append([]string{r.Path}, r.Args...)
	if r.HostConfig.Init != nil && *r.HostConfig.Init {
		return append([]string{reaper.Path, "--"}, own...)
	}
	return own
}

// cgroupParent is the control group above those of containers.
func cgroupParent(name string) string { return name + "-ctr" }

// process sets what is about the process itself.
func process(r Record, links []string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		p := s.Process
		p.NoNewPrivileges = false
		p.Terminal = r.Config.Tty
		p.Rlimits = nil // those of this process, as with dockerd
		for _, u := range r.HostConfig.Ulimits {
			p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
		}
		if r.Config.WorkingDir != "" {
			p.Cwd = r.Config.WorkingDir
		}
		if size := r.HostConfig.ConsoleSize; r.Config.Tty && size[0] > 0 {
			p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
		}
		if adj := r.HostConfig.OomScoreAdj; adj != 0 {
			p.OOMScoreAdj = &adj
		}
		p.Env = environment(r.Config, links)
		s.Annotations = over(s.Annotations, r.HostConfig.Annotations)
		s.Root.Readonly = r.HostConfig.ReadonlyRootfs
		if len(r.HostConfig.Sysctls) > 0 {
			s.Linux.Sysctl = r.HostConfig.Sysctls
		}
		return nil
	}
}

// environment is what a process of a container sees: a client's words last, after what
// comes of links.
func environment(c *container.Config, links []string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if c.Hostname != "" {
		env = append(env, "HOSTNAME="+c.Hostname)
	}
	if c.Tty {
		env = append(env, "TERM=xterm")
	}
	env = append(env, links...)
	for _, e := range c.Env {
		key, _, hasValue := strings.Cut(e, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		if hasValue { // a name alone takes a variable away
			env = append(env, e)
		}
	}
	return env
}

// joins sets the namespaces.
func (d *Daemon) joins(r Record, netns string) oci.SpecOpts {
	h := r.HostConfig
	var opts []oci.SpecOpts
	host := func(is bool, t specs.LinuxNamespaceType) {
		if is {
			opts = append(opts, oci.WithHostNamespace(t))
		}
	}
	host(h.PidMode.IsHost(), specs.PIDNamespace)
	host(h.IpcMode.IsHost(), specs.IPCNamespace)
	host(h.UTSMode.IsHost(), specs.UTSNamespace)
	host(h.NetworkMode.IsHost(), specs.NetworkNamespace)
	if netns != "" {
		opts = append(opts, oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: netns}))
	}
	if h.CgroupnsMode.IsPrivate() {
		opts = append(opts, oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.CgroupNamespace}))
	}
	return func(ctx context.Context, cl oci.Client, c *containers.Container, s *oci.Spec) error {
		if h.CgroupnsMode.IsHost() {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
		}
		if err := d.joinOther(s, specs.PIDNamespace, "pid", h.PidMode.Container()); err != nil {
			return err
		}
		if err := d.joinOther(s, specs.IPCNamespace, "ipc", h.IpcMode.Container()); err != nil {
			return err
		}
		if h.UTSMode.IsHost() {
			s.Hostname, s.Domainname = "", ""
		}
		return oci.Compose(opts...)(ctx, cl, c, s)
	}
}

// joinOther puts a container into a namespace of another that runs.
func (d *Daemon) joinOther(s *oci.Spec, t specs.LinuxNamespaceType, file, ref string) error {
	if ref == "" {
		return nil
	}
	path, err := d.namespaceOf(ref, file)
	if err != nil {
		return err
	}
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	return nil
}

func (d *Daemon) namespaceOf(ref, file string) (string, error) {
	other, err := d.find(ref)
	if err != nil {
		return "", err
	}
	st := other.record().State
	if !st.Running() {
		return "", errs.Conflictf("cannot join %s namespace of a non running container: container %s is %s", strings.ToUpper(file), strings.TrimPrefix(ref, "/"), st.Status)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", st.Pid, file), nil
}

// mounts adds the files that we keep for a container, and what was asked for.
func (d *Daemon) mounts(r Record) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *oci.Spec) error {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}})
		if r.HostConfig.IpcMode.IsHost() {
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" || m.Destination == "/dev/mqueue" })
			s.Mounts = append(s.Mounts, bind("/dev/shm", "/dev/shm", true))
			if _, err := os.Stat("/dev/mqueue"); err == nil {
				s.Mounts = append(s.Mounts, bind("/dev/mqueue", "/dev/mqueue", true))
			}
		}
		taken := map[string]bool{}
		for _, p := range r.Mounts {
			taken[p.Destination] = true
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == p.Destination })
		}
		var own []specs.Mount
		for _, f := range etcFiles {
			if !taken["/etc/"+f] {
				own = append(own, bind(filepath.Join(d.dir(r.ID), f), "/etc/"+f, true))
			}
		}
		if r.HostConfig.Init != nil && *r.HostConfig.Init {
			own = append(own, bind(d.cfg.Shim, reaper.Path, false))
		}
		want, err := wantedMounts(r.Config, r.HostConfig)
		if err != nil {
			return err
		}
		tmpfs := map[string][]string{}
		for _, w := range want {
			tmpfs[w.point.Destination] = w.tmpfs
		}
		for n, p := range r.Mounts {
			if p.Type == mount.TypeImage {
				if p.Source, err = d.imageSource(r, n); err != nil {
					return err
				}
			}
			if p.Type == mount.TypeTmpfs {
				o := tmpfs[p.Destination]
				if !p.RW {
					o = append(o, "ro")
				}
				own = append(own, specs.Mount{Destination: p.Destination, Type: "tmpfs", Source: "tmpfs", Options: o})
				continue
			}
			m := bind(p.Source, p.Destination, p.RW)
			if p.Propagation != "" {
				m.Options[1] = string(p.Propagation)
			}
			own = append(own, m)
		}
		slices.SortStableFunc(own, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) }) // outer ones first
		s.Mounts = append(s.Mounts, own...)
		return propagate(s.Linux, r.Mounts)
	}
}

func bind(from, to string, writable bool) specs.Mount {
	m := specs.Mount{Type: "bind", Source: from, Destination: to, Options: []string{"rbind", "rprivate"}}
	if !writable {
		m.Options = append(m.Options, "ro")
	}
	return m
}

// users resolves names in the container's own files.
func users(user string, more []string) oci.SpecOpts {
	name, _, _ := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	return func(ctx context.Context, cl oci.Client, c *containers.Container, s *oci.Spec) error {
		if user != "" {
			if err := oci.WithUser(user)(ctx, cl, c, s); err != nil {
				return errs.Invalidf("unable to find user %s: %s", user, strings.Replace(err.Error(), "no users found", "no matching entries in passwd file", 1))
			}
		}
		if err := oci.WithAdditionalGIDs(name)(ctx, cl, c, s); err != nil {
			return err
		}
		if len(more) == 0 {
			return nil
		}
		if err := oci.WithAppendAdditionalGroups(more...)(ctx, cl, c, s); err != nil {
			return errs.Invalidf("unable to find group: %s", err)
		}
		return nil
	}
}

// etcFiles are the files that we write for a container.
var etcFiles = [...]string{"resolv.conf", "hostname", "hosts"}

// removeFiles removes a container's own files.
func (d *Daemon) removeFiles(id string) error { return os.RemoveAll(d.dir(id)) }
