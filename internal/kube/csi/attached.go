package csi

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/errs"
)

// Attached are the volumes of a cluster on a server, to which the compute service attached
// them: disks, whose serial numbers are the beginnings of the volumes' ids.
type Attached struct {
	Dir string // what has to be known of volumes
}

var _ Disks = Attached{}

// MostAttached is how many volumes a server takes: it has so many places for what is plugged
// into it while it runs, and some more for ports.
const MostAttached = 10

// serialSize is how much of an id a disk's serial number holds (VIRTIO 1.2, 5.2.6.1).
const serialSize = 20

// device finds a volume. Unavailable: the kernel does not see it, or not yet.
func (a Attached) device(volume string) (string, error) {
	serials, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return "", err
	}
	for _, path := range serials {
		raw, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(raw)) == volume[:min(len(volume), serialSize)] {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(path))), nil
		}
	}
	return "", errs.New(errs.Unavailable, "volume %s is none of this server's disks (yet)", volume)
}

// Ensure implements Disks.
func (a Attached) Ensure(ctx context.Context, volume string, form fsmount.Form) (string, error) {
	device, err := a.device(volume)
	if err != nil || form.Raw {
		return device, err
	}
	return form.At, fsmount.MountDevice(ctx, filepath.Join(a.Dir, filepath.Base(volume)), device, form)
}

// Release implements Disks. The file system has been unmounted.
func (a Attached) Release(_ context.Context, volume string) error {
	return os.RemoveAll(filepath.Join(a.Dir, filepath.Base(volume)))
}

// Grow implements Disks.
func (a Attached) Grow(ctx context.Context, volume string, size int64) error {
	device, err := a.device(volume)
	if err != nil {
		return err
	}
	return fsmount.GrowDevice(ctx, volume, device, size)
}

// Clear implements Disks: the server goes with all that it has.
func (a Attached) Clear(context.Context) error { return nil }
