package export

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/wait"
)

// stop ends what works in the export's directory.
func (e *export) stop(ctx context.Context) error {
	if len(qemu.Workers(e.dir)) > 0 {
		// It flushes and closes the volume; if it cannot, it is killed below.
		_ = qemu.QMP(ctx, e.dir, monitor, qemu.Command{Execute: "quit"})
	}
	polite, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := qemu.AwaitWorkers(polite, e.dir); err == nil {
		return nil
	}
	return qemu.EndWorkers(ctx, e.dir)
}

// PIDs are the processes of a volume's export.
func (m *Manager) PIDs(id string) []int { return qemu.Workers(filepath.Join(m.Dir, id)) }

// User gives who works on the volume while it is exported; nil: it is not.
func (m *Manager) User(id string) volumes.User {
	if len(m.PIDs(id)) == 0 {
		return nil
	}
	return user{filepath.Join(m.Dir, id)}
}

// user has the daemon do what a volume's driver wants.
type user struct{ dir string }

// Resize ends the export for the moment in which its node grows: a client learns of
// a size when it connects, which clients do again by themselves.
func (u user) Resize(ctx context.Context, size int64) error {
	now, err := nodeSize(ctx, u.dir)
	if err != nil {
		return err
	}
	if now < size {
		err = u.grow(ctx, size)
	}
	return errors.Join(err, serve(context.WithoutCancel(ctx), u.dir)) // also if a crash came before
}

func (u user) grow(ctx context.Context, size int64) error {
	if err := u.disconnect(ctx); err != nil {
		return err
	}
	return qemu.QMP(ctx, u.dir, monitor, qemu.Command{Execute: "block_resize", Arguments: map[string]any{"node-name": node, "size": size}})
}

// disconnect ends the export and with it the connections of its clients.
func (u user) disconnect(ctx context.Context) error {
	if n, err := exports(ctx, u.dir); err != nil {
		return err
	} else if n > 0 {
		err := qemu.QMP(ctx, u.dir, monitor, qemu.Command{Execute: "block-export-del", Arguments: map[string]string{"id": exportID, "mode": "hard"}})
		if err != nil {
			return err
		}
	}
	return wait.Until(ctx, "the export to end", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		n, err := exports(ctx, u.dir)
		return n == 0, err
	})
}

// nodeSize is the size of what the daemon in dir serves, in bytes.
func nodeSize(ctx context.Context, dir string) (int64, error) {
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	}
	err := qemu.QMP(ctx, dir, monitor, qemu.Command{Execute: "query-named-block-nodes", Arguments: map[string]bool{"flat": true}, Out: &nodes})
	for _, n := range nodes {
		if n.Name == node {
			return n.Image.Size, nil
		}
	}
	return 0, errors.Join(err, errors.New("the storage daemon does not have the volume open"))
}

// exports counts what the daemon in dir serves.
func exports(ctx context.Context, dir string) (int, error) {
	var out []map[string]any
	err := qemu.QMP(ctx, dir, monitor, qemu.Command{Execute: "query-block-exports", Out: &out})
	return len(out), err
}

// serve makes the daemon serve the volume unless it does.
func serve(ctx context.Context, dir string) error {
	if n, err := exports(ctx, dir); err != nil || n > 0 {
		return err
	}
	return qemu.QMP(ctx, dir, monitor, qemu.Command{Execute: "block-export-add",
		Arguments: map[string]any{"type": "nbd", "id": exportID, "node-name": node, "name": Name, "writable": true}})
}

func (u user) Snapshot(ctx context.Context, name string) error {
	return qemu.QMP(ctx, u.dir, monitor, qemu.Command{Execute: "blockdev-snapshot-internal-sync", Arguments: map[string]string{"device": node, "name": name}})
}

func (u user) DeleteSnapshot(ctx context.Context, name string) error {
	return qemu.QMP(ctx, u.dir, monitor, qemu.Command{Execute: "blockdev-snapshot-delete-internal-sync", Arguments: map[string]string{"device": node, "name": name}})
}
