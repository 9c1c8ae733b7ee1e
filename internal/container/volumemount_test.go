package container

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/strata-cloud/strata/internal/errs"
)

// TestProjectsVolumes has containers of projects have no volume that is the node's, or
// mounts what is.
func TestProjectsVolumes(t *testing.T) {
	options := &mount.VolumeOptions{DriverConfig: &mount.Driver{Options: map[string]string{"type": "none", "device": "/", "o": "bind"}}}
	for _, m := range []mount.Mount{{Type: mount.TypeVolume, Target: "/x", VolumeOptions: options}, {Type: mount.TypeVolume, Source: "ours", Target: "/x"}, {Type: mount.TypeVolume, Source: "ours", Target: "/x", VolumeOptions: options}} {
		r := Record{ID: "c", Project: true, Config: &container.Config{}, HostConfig: &container.HostConfig{Mounts: []mount.Mount{m}}}
		if points, _, err := (&Daemon{}).mountPoints(t.Context(), r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v, %v", m, points, err)
		}
	}
}

// TestVolumeOptions refuses what dockerd refuses, in its words.
func TestVolumeOptions(t *testing.T) {
	for _, c := range []struct {
		o    map[string]string
		says string
	}{
		{nil, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, ""},
		{map[string]string{"size": "0"}, ""},
		{map[string]string{"foo": "bar"}, `create v: invalid option: "foo"`},
		{map[string]string{"type": "tmpfs"}, `create v: missing required option: "device"`},
		{map[string]string{"device": "tmpfs"}, `create v: missing required option: "type"`},
		{map[string]string{"o": "bind"}, `create v: missing required option: "device"`},
		{map[string]string{"size": "10m"}, "create v: quota size requested but no quota support"},
		{map[string]string{"size": "x"}, "create v: invalid size: 'x'"},
		{map[string]string{"type": "cifs", "device": "//h:44/x"}, "create v: port not allowed in CIFS device URL, include 'port' in 'o='"},
		{map[string]string{"type": "cifs", "device": "//u:secret@h:no/x"}, `create v: error parsing mount device url: invalid port ":no" after host`},
	} {
		err := checkVolumeOptions("v", c.o)
		if c.says == "" && err != nil || c.says != "" && (err == nil || err.Error() != c.says) {
			t.Errorf("%v: %v, want %q", c.o, err, c.says)
		}
	}
}

// TestMountOptions has names of servers looked up, and no password in an error.
func TestMountOptions(t *testing.T) {
	resolve := func(_, name string) (*net.IPAddr, error) {
		if name != "files" {
			return nil, errors.New("no such host")
		}
		return &net.IPAddr{IP: net.IPv4(192, 0, 2, 7)}, nil
	}
	for _, c := range []struct{ kind, device, o, want string }{
		{"tmpfs", "tmpfs", "size=1m,addr=files", "tmpfs|tmpfs|size=1m,addr=files"},
		{"nfs", ":/x", "rw,addr=files", "nfs|:/x|rw,addr=192.0.2.7"},
		{"nfs", ":/x", "addr=192.0.2.9", "nfs|:/x|addr=192.0.2.9"},
		{"nfs", ":/x", "addr=nowhere", "error resolving passed in network volume address: no such host"},
		{"cifs", "//files/a b", "user=x", "cifs|//192.0.2.7/a b|user=x"},
		{"cifs", "//192.0.2.3/y", "user=x,password=p4ss", "cifs|//192.0.2.3/y|user=x,password=p4ss"},
		{"nfs", "", "", "missing device in volume options"},
	} {
		var got string
		err := mountOptions("/d", map[string]string{"type": c.kind, "device": c.device, "o": c.o}, resolve, func(device, _, kind, options string) error {
			got = kind + "|" + device + "|" + options
			return nil
		})
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	err := mountOptions("/d", map[string]string{"type": "cifs", "device": "//192.0.2.3/y", "o": "user=x,password=p4ss"}, resolve, func(_, _, _, o string) error { return errors.New("mount failed, data: " + o) })
	if err == nil || strings.Contains(err.Error(), "p4ss") || !strings.HasPrefix(err.Error(), "failed to mount local volume: ") {
		t.Errorf("an error: %v", err)
	}
}
