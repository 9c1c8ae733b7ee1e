package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"

	"github.com/strata-cloud/strata/internal/errs"
)

// revisionBump is added to the revision at a restore, so that no revision that
// somebody remembers from after the snapshot is ever given out again.
const revisionBump = 1_000_000_000

// RestoreEtcd fills an empty data directory from a snapshot; NewEtcd then opens
// it. A directory that holds a store is refused and a damaged snapshot leaves
// the directory without one.
func RestoreEtcd(dir string, r io.Reader) (err error) {
	lock, err := LockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	final := filepath.Join(dir, "etcd")
	if _, err := os.Stat(final); err == nil {
		return errs.Conflictf("data directory %s already holds a store; restore into an empty directory or move %s away first", dir, final)
	}
	// A restore that was killed may have left its work behind.
	work := filepath.Join(dir, "restoring")
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o700)); err != nil {
		return fmt.Errorf("restoring into %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	file := filepath.Join(work, "snapshot")
	if err := writeFile(file, r); err != nil {
		return fmt.Errorf("copying the snapshot: %w", err)
	}
	out := filepath.Join(work, "etcd")
	if err := restoreFile(file, out); err != nil {
		return errs.Invalidf("the snapshot cannot be restored: %w", err)
	}
	// A first start that was killed before leaves a mark that would condemn the new store.
	if err := os.Remove(filepath.Join(dir, creating)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restoring into %s: %w", dir, err)
	}
	if err := errors.Join(syncDir(dir), os.Rename(out, final)); err != nil {
		return fmt.Errorf("putting the restored store in place: %w", err)
	}
	return syncDir(dir)
}

func restoreFile(file, out string) error {
	return snapshot.NewV3(zapTo(slog.New(slog.DiscardHandler))).Restore(snapshot.RestoreConfig{
		SnapshotPath:        file,
		Name:                etcdName,
		OutputDataDir:       out,
		PeerURLs:            []string{etcdPeerURL},
		InitialCluster:      etcdName + "=" + etcdPeerURL,
		InitialClusterToken: "etcd-cluster",
		RevisionBump:        revisionBump,
		MarkCompacted:       true,
	})
}

func writeFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
