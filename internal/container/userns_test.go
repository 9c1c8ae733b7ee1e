package container

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/needs"
)

func someIDs() *idmap.Map {
	m := &idmap.Map{}
	m.UIDMaps, m.GIDMaps = []user.IDMap{{ParentID: 100000, Count: 65536}}, []user.IDMap{{ParentID: 200000, Count: 65536}}
	return m
}

// TestRemaps has new containers be in a user namespace unless they ask for the host's, and
// refuses what cannot be in one.
func TestRemaps(t *testing.T) {
	d := &Daemon{cfg: Config{Remap: someIDs()}}
	for _, c := range []struct {
		h    container.HostConfig
		says string
	}{
		{container.HostConfig{}, ""},
		{container.HostConfig{Privileged: true}, "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"},
		{container.HostConfig{NetworkMode: "host"}, "cannot share the host's network namespace when user namespaces are enabled"},
		{container.HostConfig{PidMode: "host"}, "cannot share the host PID namespace when user namespaces are enabled"},
	} {
		m, err := d.remaps(&Record{HostConfig: &c.h})
		if c.says == "" && (err != nil || m == nil) || c.says != "" && (!errs.Is(err, errs.Invalid) || err.Error() != c.says) {
			t.Errorf("%+v: %v, %v", c.h, m, err)
		}
		c.h.UsernsMode = "host"
		if m, err := d.remaps(&Record{HostConfig: &c.h}); m != nil || err != nil {
			t.Errorf("in the host's user namespace: %v, %v", m, err)
		}
	}
	if m, err := d.remaps(&Record{HostConfig: &container.HostConfig{Privileged: true}, Project: true}); m != nil || err != nil {
		t.Errorf("a project's: %v, %v", m, err)
	}
	if m, err := (&Daemon{}).remaps(&Record{HostConfig: &container.HostConfig{Privileged: true}}); m != nil || err != nil {
		t.Errorf("without a map: %v, %v", m, err)
	}
}

// mountedSo finds a directory that is mounted with an option, and all its options.
func mountedSo(t *testing.T, option string) (string, []string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if fi, err := os.Stat(f[1]); err == nil && fi.IsDir() && slices.Contains(strings.Split(f[3], ","), option) {
			return f[1], strings.Split(f[3], ",")
		}
	}
	needs.Missing(t, "no mount has the option %s", option)
	return "", nil
}

// TestRemapped has bind mounts keep what only the host may take from them.
func TestRemapped(t *testing.T) {
	ns, err := os.Open("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	source, flags := mountedSo(t, "nosuid")
	s := &specs.Spec{Linux: &specs.Linux{}, Mounts: []specs.Mount{{Type: "bind", Source: source, Destination: "/p", Options: []string{"rbind", "rprivate"}}, {Type: "tmpfs", Source: "tmpfs", Destination: "/t"}}}
	if err := remapped(Record{IDs: someIDs(), HostConfig: &container.HostConfig{}}, ns)(context.Background(), nil, nil, s); err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{"rbind", "rprivate", "nosuid", "nodev", "noexec"} {
		if kept := strings.HasPrefix(o, "r") || slices.Contains(flags, o); slices.Contains(s.Mounts[0].Options, o) != kept {
			t.Errorf("a bind mount of %s, which has %v, has %v", source, flags, s.Mounts[0].Options)
		}
	}
	if len(s.Mounts[1].Options) != 0 {
		t.Errorf("a tmpfs has %v", s.Mounts[1].Options)
	}
	if len(s.Linux.Namespaces) != 1 || !strings.HasPrefix(s.Linux.Namespaces[0].Path, "/proc/") || s.Linux.UIDMappings[0].HostID != 100000 || s.Linux.GIDMappings[0].HostID != 200000 {
		t.Errorf("%+v, %+v, %+v", s.Linux.Namespaces, s.Linux.UIDMappings, s.Linux.GIDMappings)
	}
	other, err := os.Open("/proc/self/ns/net") // certainly no user namespace of a container
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s = &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace, Path: "/proc/self/ns/pid"}}}}
	if err := remapped(Record{IDs: someIDs(), HostConfig: &container.HostConfig{}}, other)(context.Background(), nil, nil, s); !errs.Is(err, errs.Conflict) {
		t.Errorf("joining a namespace of another user namespace: %v", err)
	}
}

// TestBindDevices has devices with another path than on the host mounted, and no others.
func TestBindDevices(t *testing.T) {
	s := &specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/zero"}, {Path: "/dev/nought"}, {Path: "/dev/noughts"}, {Path: "/in/dir/tun"}}}}
	bindDevices(s, []container.DeviceMapping{{PathOnHost: "/dev/zero", PathInContainer: "/dev/zero"}, {PathOnHost: "/dev/zero", PathInContainer: "/dev/nought"}, {PathOnHost: "/dev/full"}, {PathOnHost: "/dev/net", PathInContainer: "/in/dir/"}})
	var left, bound []string
	for _, d := range s.Linux.Devices {
		left = append(left, d.Path)
	}
	for _, m := range s.Mounts {
		bound = append(bound, m.Source+" "+m.Destination)
	}
	if want := []string{"/dev/zero", "/dev/noughts"}; !slices.Equal(left, want) {
		t.Errorf("devices %v, want %v", left, want)
	}
	if want := []string{"/dev/zero /dev/nought", "/dev/net/tun /in/dir/tun"}; !slices.Equal(bound, want) {
		t.Errorf("mounts %v, want %v", bound, want)
	}
}
