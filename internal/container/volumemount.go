package container

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/container"
	mountapi "github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"
	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/strata-cloud/strata/internal/errs"
)

// A volume with options has a file system mounted where its files are, for as long as a
// container that has it runs (moby's daemon/volume/local). Who gives options is as good as
// root of the machine; projects cannot.

// checkVolumeOptions refuses what dockerd refuses (local_unix.go, validateOpts).
func checkVolumeOptions(name string, o map[string]string) error {
	bad := func(format string, args ...any) error {
		return errs.Invalidf("create %s: %s", name, fmt.Sprintf(format, args...))
	}
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if k != "type" && k != "o" && k != "device" && k != "size" {
			return bad("invalid option: %q", k)
		}
	}
	if o["type"] == "cifs" {
		if u, err := parseDevice(o["device"]); err != nil {
			return bad("%s", err)
		} else if u.Port() != "" {
			return bad("port not allowed in CIFS device URL, include 'port' in 'o='")
		}
	}
	if size, ok := o["size"]; ok {
		if n, err := units.RAMInBytes(size); err != nil {
			return bad("%s", err)
		} else if n > 0 {
			return bad("quota size requested but no quota support")
		}
	}
	for _, need := range [][2]string{{"device", "type"}, {"type", "device"}, {"o", "device"}, {"o", "type"}} {
		_, has := o[need[0]]
		if _, ok := o[need[1]]; has && !ok {
			return bad("missing required option: %q", need[1])
		}
	}
	return nil
}

// mounted is a volume with options, and which containers run, or are read, with it.
type mounted struct {
	mu sync.Mutex
	by map[string]bool
}

// mountable is the volume with a name if it has to be mounted; nil: it need not be.
func (d *Daemon) mountable(name string) (*Volume, *mounted) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.vols[name]
	if v == nil || v.Options["device"] == "" && v.Options["type"] == "" {
		return nil, nil
	}
	if d.volumesUp[name] == nil {
		d.volumesUp[name] = &mounted{by: map[string]bool{}}
	}
	return v, d.volumesUp[name]
}

// optioned are a container's volumes that have to be mounted, each of them locked.
func (d *Daemon) optioned(r Record) iter.Seq2[*Volume, *mounted] {
	return func(yield func(*Volume, *mounted) bool) {
		for _, p := range r.Mounts {
			if p.Type != mountapi.TypeVolume || p.Driver == cloudDriver {
				continue
			}
			v, m := d.mountable(p.Name)
			if v == nil {
				continue
			}
			m.mu.Lock()
			more := yield(v, m)
			m.mu.Unlock()
			if !more {
				return
			}
		}
	}
}

// holdVolumes has a container's volumes mounted until releaseVolumes.
func (d *Daemon) holdVolumes(r Record) error {
	for v, m := range d.optioned(r) {
		if err := d.mountVolume(v); err != nil {
			return err
		}
		m.by[r.ID] = true
	}
	return nil
}

// heldVolumes tells that a container that is found running has its volumes mounted.
func (d *Daemon) heldVolumes(r Record) {
	for _, m := range d.optioned(r) {
		m.by[r.ID] = true
	}
}

func (d *Daemon) mountVolume(v *Volume) error {
	dir := d.volumeDir(v.Name)
	is, err := mountinfo.Mounted(dir)
	if err == nil && !is {
		err = mountOptions(dir, v.Options, net.ResolveIPAddr, mount.Mount)
	}
	if err != nil {
		return errs.New(errs.Internal, "error while mounting volume '%s': %s", dir, err)
	}
	return nil
}

// releaseVolumes unmounts those of a container's volumes that no other one has.
func (d *Daemon) releaseVolumes(r Record) error {
	var all []error
	for v, m := range d.optioned(r) {
		delete(m.by, r.ID)
		if len(m.by) == 0 {
			all = append(all, mount.Unmount(d.volumeDir(v.Name)))
		}
	}
	return errors.Join(all...)
}

// withVolumes has the volumes of a container that does not run mounted for the time of f.
func (d *Daemon) withVolumes(r Record, f func() error) error {
	err := d.holdVolumes(r)
	if err == nil {
		err = f()
	}
	return errors.Join(err, d.releaseVolumes(r))
}

// sweepVolumes unmounts what a crash left mounted.
func (d *Daemon) sweepVolumes() error {
	var all []error
	for _, v := range d.Volumes() {
		all = append(all, d.releaseVolumes(Record{Mounts: []container.MountPoint{{Type: mountapi.TypeVolume, Name: v.Name}}}))
	}
	return errors.Join(all...)
}

// endVolume unmounts a volume that is to be removed: what is mounted there is not its own.
func (d *Daemon) endVolume(name string) error {
	v, m := d.mountable(name)
	if v == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := d.volumeDir(name)
	if err := mount.Unmount(dir); err != nil {
		return err
	}
	if is, err := mountinfo.Mounted(dir); err != nil || is {
		return errors.Join(err, errs.Conflictf("remove %s: %s is still mounted", name, dir))
	}
	return nil
}

// mountOptions mounts what options say. Names of servers are looked up, which the kernel
// does not do (local_unix.go, getMountOptions).
func mountOptions(dir string, o map[string]string, resolve func(network, name string) (*net.IPAddr, error), do func(device, target, kind, options string) error) error {
	device, opts := o["device"], o["o"]
	if device == "" {
		return errors.New("missing device in volume options")
	}
	address := func(name string) (string, error) {
		a, err := resolve("ip", name)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		return a.String(), nil
	}
	server := option(opts, "addr")
	switch remote := o["type"] == "nfs" || o["type"] == "cifs"; {
	case remote && server != "" && net.ParseIP(server).To4() == nil:
		a, err := address(server)
		if err != nil {
			return err
		}
		opts = strings.Replace(opts, "addr="+server, "addr="+a, 1)
	case o["type"] == "cifs":
		u, err := parseDevice(device)
		if err != nil {
			return err
		}
		if u.Host == "" || net.ParseIP(u.Host) != nil {
			break
		}
		a, err := address(u.Host)
		if err != nil {
			return err
		}
		u.Host = a
		if device, err = url.PathUnescape(u.String()); err != nil {
			return err
		}
	}
	if err := do(device, dir, o["type"], opts); err != nil {
		text := err.Error()
		if secret := option(opts, "password"); secret != "" {
			text = strings.ReplaceAll(text, "password="+secret, "password=********")
		}
		return errors.New("failed to mount local volume: " + text)
	}
	return nil
}

// parseDevice reads the address of a share; its errors do not repeat that, which may have a
// password.
func parseDevice(device string) (*url.URL, error) {
	u, err := url.Parse(device)
	if wrong := (*url.Error)(nil); errors.As(err, &wrong) {
		err = wrong.Err
	}
	if err != nil {
		return nil, fmt.Errorf("error parsing mount device url: %w", err)
	}
	return u, nil
}

// option is the value of one of a mount's options.
func option(opts, name string) string {
	for o := range strings.SplitSeq(opts, ",") {
		if v, ok := strings.CutPrefix(o, name+"="); ok {
			return v
		}
	}
	return ""
}
