package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Names of the driver and of the pool that is always there.
const (
	Name = "local"
	Pool = "local"
)

// Driver keeps volumes below its pools' directories.
type Driver struct {
	pools map[string]string
	tools qemu.Tools
}

var _ volumes.Driver = (*Driver)(nil)

// New makes the driver, the only one there, with its pool in dir. It ends the
// programs of an interrupted one, which would hold volumes, and removes what that
// left half made or half removed.
func New(ctx context.Context, dir string, tools qemu.Tools) (*Driver, error) {
	return WithPools(ctx, map[string]string{Pool: dir}, tools)
}

// WithPools is New for several pools, each in a directory of its own. One of them
// is called Pool.
func WithPools(ctx context.Context, pools map[string]string, tools qemu.Tools) (*Driver, error) {
	d := &Driver{pools: map[string]string{}, tools: tools}
	for name, dir := range pools {
		if !namePattern.MatchString(name) {
			return nil, errs.Invalidf("%q is no name of a pool", name)
		}
		dir, err := d.openPool(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", name, err)
		}
		d.pools[name] = dir
	}
	return d, nil
}

// openPool makes a pool's directory ready and gives its path as /proc shows it.
func (d *Driver) openPool(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("making the volumes' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(dir, foreignDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if err := qemu.EndWorkers(ctx, dir); err != nil {
		return "", fmt.Errorf("ending what an earlier agent began: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case newExt, goneExt, readExt:
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return "", fmt.Errorf("removing what was left: %w", err)
			}
		}
	}
	return dir, nil
}

// Extensions of directories that are no volumes.
const (
	newExt  = ".new"
	goneExt = ".gone"
	readExt = ".read"
)

// namePattern is what ids of volumes and snapshots look like: UUIDs, mostly.
var namePattern = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,99}$`)

// file is the name of the volume's file.
func file(id string) string { return "vol-" + id }

// base is the name of what the volume is an overlay on.
func base(id string) string { return file(id) + ".base" }

// path gives the volume's directory.
func (d *Driver) path(v nodeapi.VolumeRef) (string, error) {
	if !namePattern.MatchString(v.ID) {
		return "", errs.Invalidf("%q is no id of a volume", v.ID)
	}
	dir, err := d.pool(v)
	return filepath.Join(dir, v.ID), err
}

// pool gives the directory of the volume's pool; "" is the one that is always there.
func (d *Driver) pool(v nodeapi.VolumeRef) (string, error) {
	dir, ok := d.pools[cmp.Or(v.Pool, Pool)]
	if !ok {
		return "", errs.NotFoundf("this node has no pool %q of volumes", v.Pool)
	}
	return dir, nil
}

// volume gives the directory and the header of a volume that is there.
func (d *Driver) volume(v nodeapi.VolumeRef) (string, header, error) {
	dir, err := d.path(v)
	if err != nil {
		return "", header{}, err
	}
	h, err := readHeader(filepath.Join(dir, file(v.ID)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", h, errs.NotFoundf("volume %s is not kept here", v.ID)
	}
	if err == nil && (h.crypt == cryptLUKS) != (len(v.Key) > 0) {
		return "", h, errs.Invalidf("volume %s: whether it is encrypted and whether there is a key disagree", v.ID)
	}
	return dir, h, err
}

// Pools implements volumes.Driver.
func (d *Driver) Pools(context.Context) ([]nodeapi.Pool, error) {
	var all []nodeapi.Pool
	for name, dir := range d.pools {
		p, err := measure(name, dir)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func measure(name, dir string) (nodeapi.Pool, error) {
	p := nodeapi.Pool{Driver: Name, Name: name, Thin: true, Multiattach: true, Encryption: true}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return p, fmt.Errorf("reading the size of the volumes' directory: %w", err)
	}
	p.TotalGiB, p.FreeGiB = float64(st.Blocks)*float64(st.Bsize)/(1<<30), float64(st.Bavail)*float64(st.Bsize)/(1<<30)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if !e.IsDir() || strings.Contains(e.Name(), ".") {
			continue // no volume
		}
		h, err := readHeader(filepath.Join(dir, e.Name(), file(e.Name())))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return p, fmt.Errorf("volume %s: %w", e.Name(), err)
		}
		p.Provisioned += float64(h.size) / (1 << 30)
	}
	return p, nil
}

// Exists implements volumes.Driver.
func (d *Driver) Exists(_ context.Context, v nodeapi.VolumeRef) (bool, error) {
	dir, err := d.path(v)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Size implements volumes.Driver.
func (d *Driver) Size(_ context.Context, v nodeapi.VolumeRef, snapshot string) (int64, error) {
	_, h, err := d.volume(v)
	if err != nil {
		return 0, err
	}
	return h.sizeOf(snapshot)
}

// Snapshots implements volumes.Driver.
func (d *Driver) Snapshots(_ context.Context, v nodeapi.VolumeRef) ([]string, error) {
	_, h, err := d.volume(v)
	var names []string
	for _, s := range h.snapshots {
		names = append(names, s.name)
	}
	return names, err
}

// Delete implements volumes.Driver.
func (d *Driver) Delete(_ context.Context, v nodeapi.VolumeRef) error {
	dir, err := d.path(v)
	if err != nil {
		return err
	}
	gone := dir + goneExt
	if err := errors.Join(os.RemoveAll(gone), os.RemoveAll(dir+newExt)); err != nil {
		return fmt.Errorf("removing volume %s: %w", v.ID, err)
	}
	if err := os.Rename(dir, gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("removing volume %s: %w", v.ID, err)
	}
	return errors.Join(syncPath(filepath.Dir(dir)), os.RemoveAll(gone))
}

// secretID names the passphrase in QEMU's options.
const secretID = "key"

// secrets are what a program needs to open the volume.
func secrets(v nodeapi.VolumeRef) []qemu.Secret {
	if len(v.Key) == 0 {
		return nil
	}
	return []qemu.Secret{{ID: secretID, Key: v.Key}}
}

// options describe the volume's file, in the working directory, to QEMU's programs.
func options(v nodeapi.VolumeRef, name string) string {
	s := "driver=qcow2,file.driver=file,file.filename=" + name
	if len(v.Key) > 0 {
		s += ",encrypt.format=luks,encrypt.key-secret=" + secretID
	}
	return s
}

// syncPath makes a file or a directory stable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
