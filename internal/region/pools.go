package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/errs"
)

// poolsDir has a symbolic link per pool of volumes besides the first one, so that a
// pool that was added once is there at every later start.
const poolsDir = "pools"

var poolName = regexp.MustCompile(`^[0-9a-z][0-9a-z_-]{0,30}$`)

// validPools checks the pools of the command line.
func validPools(pools map[string]string) error {
	for name, dir := range pools {
		switch {
		case !poolName.MatchString(name) || name == local.Pool:
			return errs.Invalidf("--volume-pool %s=%s: a pool is called by lower-case letters, digits, - and _, and not %s", name, dir, local.Pool)
		case !filepath.IsAbs(dir):
			return errs.Invalidf("--volume-pool %s=%s: give the directory from the root", name, dir)
		}
	}
	return nil
}

// volumePools are the directories of all pools, with those that are new.
func volumePools(cfg *Config) (map[string]string, error) {
	for _, name := range slices.Sorted(maps.Keys(cfg.VolumePools)) {
		if err := addPool(cfg, name, cfg.VolumePools[name]); err != nil {
			return nil, fmt.Errorf("pool %s: %w", name, err)
		}
	}
	pools, err := keptPools(cfg)
	if err != nil {
		return nil, err
	}
	for name, dir := range pools {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("pool %s: %w; mount its filesystem, or remove %s if its volumes are lost", name, err, cfg.path(filepath.Join(poolsDir, name)))
		}
	}
	pools[local.Pool] = cfg.path(volumesDir)
	return pools, nil
}

// addPool makes a directory of this cloud's own in dir.
func addPool(cfg *Config, name, dir string) error {
	link, own := cfg.path(filepath.Join(poolsDir, name)), filepath.Join(filepath.Clean(dir), Name(cfg.DataDir)+"-"+name)
	switch at, err := os.Readlink(link); {
	case err == nil && at == own:
		return nil
	case err == nil:
		return errs.Invalidf("it is in %s already", at)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := passable(filepath.Clean(dir)); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(own, 0o711), os.MkdirAll(cfg.path(poolsDir), 0o700), os.Symlink(own, link))
}

// passable makes sure that QEMU's user gets to a directory, which must be there.
func passable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		fi, err := os.Stat(at)
		if err != nil {
			return err
		}
		if !fi.IsDir() || fi.Mode().Perm()&1 == 0 {
			return errs.Invalidf("QEMU's user cannot pass through %s: try chmod o+x %s", at, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// keptPools reads the links.
func keptPools(cfg *Config) (map[string]string, error) {
	entries, err := os.ReadDir(cfg.path(poolsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pools := map[string]string{}
	for _, e := range entries {
		if pools[e.Name()], err = os.Readlink(cfg.path(filepath.Join(poolsDir, e.Name()))); err != nil {
			return nil, err
		}
	}
	return pools, nil
}

// removePools removes the volumes that are not in the data directory.
func removePools(ctx context.Context, cfg *Config) error {
	pools, err := keptPools(cfg)
	if err != nil {
		return err
	}
	for _, dir := range pools {
		if err := qemu.EndWorkers(ctx, dir); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
