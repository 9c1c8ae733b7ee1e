package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

var _ volumes.Recrypter = (*Driver)(nil)

// Recrypt implements volumes.Recrypter: a copy that is encrypted, or is not, takes
// the volume's place in one step. The header tells which of the two is there.
func (d *Driver) Recrypt(ctx context.Context, from, to nodeapi.VolumeRef) error {
	dir, err := d.path(to)
	if err != nil {
		return err
	}
	if _, _, err := d.volume(to); err == nil {
		return os.RemoveAll(dir + newExt) // done already
	} else if !errs.Is(err, errs.Invalid) {
		return err
	}
	_, h, err := d.volume(from)
	if err != nil {
		return err
	}
	if len(h.snapshots) > 0 {
		return errs.Conflictf("volume %s has snapshots", from.ID)
	}
	tmp := dir + newExt
	err = d.workDir(tmp)
	if err == nil {
		err = d.recrypt(ctx, tmp, dir, from, to)
	}
	if err == nil {
		err = exchange(tmp, dir)
	}
	return errors.Join(wrap(err, from.ID), os.RemoveAll(tmp))
}

func wrap(err error, id string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("changing the encryption of volume %s: %w", id, err)
}

// recrypt makes a copy of the volume in tmp, with links to the volume's own files.
func (d *Driver) recrypt(ctx context.Context, tmp, dir string, from, to nodeapi.VolumeRef) error {
	origin := filepath.Join(tmp, originFile)
	if err := os.Link(filepath.Join(dir, file(from.ID)), origin); err != nil {
		return err
	}
	under := filepath.Join(tmp, base(from.ID))
	if err := os.Link(filepath.Join(dir, base(from.ID)), under); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	keys, opts := secrets(to), options(nodeapi.VolumeRef{}, originFile)
	if len(from.Key) > 0 {
		keys = append(keys, qemu.Secret{ID: originKey, Key: from.Key})
		opts += ",encrypt.format=luks,encrypt.key-secret=" + originKey
	}
	if err := d.img(ctx, tmp, keys, "convert", append(format(to), "--image-opts", opts, file(to.ID))...); err != nil {
		return err
	}
	for _, gone := range []string{origin, under} {
		if err := os.Remove(gone); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(syncPath(filepath.Join(tmp, file(to.ID))), syncPath(tmp))
}

// exchange swaps two directories, in one step.
func exchange(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchanging two directories: %w", err)
	}
	return syncPath(filepath.Dir(b))
}
