package region

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/store"
)

// ClusterReset makes this machine the only member of its cloud's control plane, with
// the store that it has itself or, if from is given, with a backup's or snapshot's.
// The others are plain nodes in its eyes from then on, which are away.
func ClusterReset(ctx context.Context, cfg Config, from string, progress func(string)) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	dir := cfg.path("store")
	if _, err := os.Stat(dir + "/etcd"); errors.Is(err, fs.ErrNotExist) && from == "" {
		return errs.NotFoundf("there is no member of a control plane in %s", cfg.DataDir)
	}
	if from != "" {
		if _, err := Restore(ctx, RestoreOptions{File: from, DataDir: cfg.DataDir, Replace: true, Progress: progress}); err != nil {
			return err
		}
	}
	progress("making this machine the only control member")
	log := slog.New(slog.DiscardHandler)
	backend, err := store.NewEtcd(ctx, store.EtcdOptions{Dir: dir, Log: log, Force: from == ""})
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Options{Backend: backend, Log: log})
	if err != nil {
		return errors.Join(err, backend.Close())
	}
	if err := forgetMembers(ctx, db); err != nil {
		err = fmt.Errorf("forgetting the other members: %w", err)
		return errors.Join(err, db.Close())
	}
	return db.Close()
}

// forgetMembers leaves no control members; this one enrols at its next start.
func forgetMembers(ctx context.Context, db *store.DB) error {
	pool := nodes.New(db)
	if err := db.Start(ctx); err != nil {
		return err
	}
	return db.Txn(ctx, func(tx *store.Tx) error {
		for _, m := range pool.Members.All() {
			if m.Role != nodes.RoleControl {
				continue
			}
			plain := *m
			plain.Role, plain.Peer = nodes.RoleNode, 0
			if err := pool.Members.TxPut(tx, &plain); err != nil {
				return err
			}
		}
		return nil
	})
}
