package fsmount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/strata-cloud/strata/internal/errs"
)

// MountDevice has the file system of a disk that this machine has mounted at form.At, and
// makes one on a disk that is blank. In dir is what has to be known if it is cut off. It may
// be repeated. Conflict: it has no file system, and is not blank.
func MountDevice(ctx context.Context, dir, device string, form Form) error {
	if there, err := mountedAt(form.At); err != nil || there {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	blank, err := isBlankDevice(ctx, device)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, formatMark)); err == nil { // it was cut off
		blank = true
	}
	now := source{Form: form}
	kind, err := prepare(ctx, dir, device, blank, now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(form.At, 0o750); err != nil {
		return err
	}
	if err := mount.Mount(device, form.At, kind, now.options(kind)); err != nil {
		return fmt.Errorf("mounting the volume's %s: %w", kind, err)
	}
	if blank {
		return empty(dir, form.At)
	}
	return nil
}

// headSize is how much of a disk has to be zeros for it to be blank: what holds data
// without a signature (a database on the device) seldom begins with as many.
const headSize = 1 << 20

// isBlankDevice tells whether a disk has no signature that blkid knows and a head of zeros.
// A disk does not tell where it has holes, and may be too large to be read.
func isBlankDevice(ctx context.Context, device string) (bool, error) {
	kind, err := run(ctx, []int{2}, "blkid", "-p", "-o", "value", device)
	if err != nil || kind != "" {
		return false, err
	}
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("reading the head of the volume: %w", err)
	}
	return bytes.Count(head[:n], []byte{0}) == n, nil
}

// GrowDevice has the file system on a disk fill it, if it is mounted. Unavailable: the disk
// is not as large as that yet.
func GrowDevice(ctx context.Context, id, device string, size int64) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	has, err := f.Seek(0, io.SeekEnd)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if has < size {
		return errs.New(errs.Unavailable, "volume %s shows %d bytes here, not %d yet", id, has, size)
	}
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Source != device, m.Source == device })
	if err != nil || len(list) == 0 {
		return err
	}
	return growFS(ctx, id, list[0].Mountpoint, device)
}
