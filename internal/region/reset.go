package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/container"
	"github.com/strata-cloud/strata/internal/dataplane"
	"github.com/strata-cloud/strata/internal/hypervisor"
)

// owned are the entries of the data directory that Strata makes. Anything else
// there is the operator's and survives a reset.
var owned = [...]string{"store", "images", "instances", "bases", "templates", leasesDir, volumesDir, poolsDir, cephDir, attachedDir, exportsDir, mountsDir, podMountsDir, volumeBackupsDir, registryDir, "guest", "keys", snapshotsDir, replacedDir, AdminSocket, CloudsFile, CloudsFile + ".new", caCertFile, caKeyFile, memberFile, nodeCertFile, controlCertFile, fetchedDir, policyFile + ".new", "strata.log", hypervisor.ProbeFile, containersDir, DockerSocket, kubeDir, kubeletDir}

// Reset removes every trace of a region that is not running from this machine:
// its servers, namespaces, links, tables, control groups and files.
func Reset(ctx context.Context, cfg Config, progress func(string)) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	name := Name(cfg.DataDir)
	progress("ending the servers of this machine")
	if err := endServers(ctx, &cfg); err != nil {
		return err
	}
	if err := hypervisor.EndLeases(ctx, cfg.path(leasesDir)); err != nil {
		return err
	}
	if err := endClusters(ctx, &cfg); err != nil {
		return fmt.Errorf("ending clusters of Kubernetes: %w", err)
	}
	progress("ending the containers of this machine")
	if err := container.Reset(ctx, container.Config{Dir: cfg.path(containersDir), Name: name, Log: cfg.Log}); err != nil {
		return fmt.Errorf("removing containers: %w", err)
	}
	for _, dir := range []string{mountsDir, podMountsDir} {
		if err := fsmount.Reset(ctx, cfg.path(dir)); err != nil {
			return fmt.Errorf("unmounting volumes: %w", err)
		}
	}
	if err := endExports(ctx, &cfg); err != nil { // of which some are what is unmounted
		return err
	}
	progress("removing networks")
	if err := dataplane.Reset(ctx, name); err != nil {
		return fmt.Errorf("removing networks: %w", err)
	}
	groups, err := cgroup.New(name)
	if err != nil {
		return err
	}
	if err := groups.RemoveParent(ctx); err != nil {
		return fmt.Errorf("removing control groups: %w", err)
	}
	progress("removing " + cfg.DataDir)
	if err := removePools(ctx, &cfg); err != nil {
		return fmt.Errorf("removing pools of volumes: %w", err)
	}
	return removeFiles(cfg.DataDir)
}

func endServers(ctx context.Context, cfg *Config) error {
	if _, err := os.Stat(cfg.instancesDir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	groups, err := cgroup.New(Name(cfg.DataDir))
	if err != nil {
		return err
	}
	d, err := hypervisor.New(ctx, hypervisor.Config{Dir: cfg.instancesDir(), UID: cfg.QEMUUser, GID: cfg.QEMUUser, Accel: hypervisor.TCG, Cgroups: groups, Log: cfg.Log})
	if err != nil {
		return err
	}
	defer d.Close()
	ids, err := d.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := d.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// endExports ends the storage daemons, and programs that a crash left at work on volumes.
func endExports(ctx context.Context, cfg *Config) error {
	if err := qemu.EndWorkers(ctx, cfg.path(volumesDir)); err != nil {
		return err
	}
	if _, err := os.Stat(cfg.path(exportsDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	m, err := export.New(export.Config{Dir: cfg.path(exportsDir), Log: cfg.Log})
	if err != nil {
		return err
	}
	return m.EndAll(ctx)
}

func removeFiles(dir string) error {
	for _, name := range owned {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	err := os.Remove(dir) // only if nothing of the operator's is in it, and it is no mount point (EBUSY)
	if left, e := os.ReadDir(dir); e == nil && len(left) > 0 || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EBUSY) {
		return nil
	}
	return err
}
