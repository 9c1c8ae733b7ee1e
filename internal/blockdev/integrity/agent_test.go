package integrity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/vault"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// testUID is a user that owns nothing on any host.
const testUID = 64396

// task is one operation of the agent, as it is handed to a process of its own.
type task struct {
	Dir      string
	Op       string
	Volume   nodeapi.VolumeRef
	Size     int64
	Name     string // of a snapshot or a backup
	Parent   string
	From     *nodeapi.VolumeRef
	Machine  string // directory of the QEMU that has the volume open
	Exported bool
}

const taskVariable = "STRATA_INTEGRITY_TASK"

func TestMain(m *testing.M) {
	if raw := os.Getenv(taskVariable); raw != "" {
		var t task
		err := json.Unmarshal([]byte(raw), &t)
		if err == nil {
			err = t.run(context.Background())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func tools() qemu.Tools { return qemu.Tools{UID: testUID, GID: testUID} }

// parts are what an agent opens when it starts.
func (t *task) parts(ctx context.Context) (*local.Driver, *vault.Vault, *export.Manager, error) {
	d, errD := local.New(ctx, filepath.Join(t.Dir, "volumes"), tools())
	f, errF := vault.NewFiles(filepath.Join(t.Dir, "backups"))
	m, errM := export.New(export.Config{Dir: filepath.Join(t.Dir, "exports"), Tools: tools(), Log: slog.New(slog.DiscardHandler)})
	return d, vault.New(f), m, errors.Join(errD, errF, errM)
}

func (t *task) run(ctx context.Context) error {
	d, store, exports, err := t.parts(ctx)
	if err != nil {
		return err
	}
	var u volumes.User
	if t.Machine != "" {
		u = machine(t.Machine)
	} else if t.Exported {
		u = exports.User(t.Volume.ID)
	}
	switch t.Op {
	case "create":
		return d.Create(ctx, t.Volume, t.Size, volumes.Origin{Volume: t.From, Snapshot: t.Name})
	case "delete":
		return d.Delete(ctx, t.Volume)
	case "extend":
		return d.Extend(ctx, t.Volume, t.Size, u)
	case "snapshot":
		return d.Snapshot(ctx, t.Volume, t.Name, u)
	case "delete snapshot":
		return d.DeleteSnapshot(ctx, t.Volume, t.Name, u)
	case "revert":
		return d.Revert(ctx, t.Volume, t.Name)
	case "backup":
		dev, err := d.Open(ctx, t.Volume, t.Name)
		if err != nil {
			return err
		}
		_, err = store.Make(ctx, t.Name, t.Parent, t.Volume.Key, dev)
		return errors.Join(err, dev.Close())
	case "restore":
		dev, err := d.Open(ctx, t.Volume, "")
		if err != nil {
			return err
		}
		return errors.Join(store.Restore(ctx, t.Name, t.Volume.Key, dev), dev.Close())
	case "delete backup":
		return store.Delete(ctx, t.Name)
	}
	return fmt.Errorf("unknown operation %q", t.Op)
}

// killed runs the task in a process that is killed after a while, unless it is done.
func (t *task) killed(ctx context.Context, after time.Duration) (bool, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+"="+string(raw))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		return false, err
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() < 0 {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out.String())
	}
	return false, err
}

// machine is a QEMU without a guest in its directory; we do the guest's I/O.
type machine string

const qmpSocket = "qmp.sock"

func (m machine) qmp(ctx context.Context, command string, args any) error {
	return qemu.QMP(ctx, string(m), qmpSocket, qemu.Command{Execute: command, Arguments: args})
}

// io does what a guest would do.
func (m machine) io(ctx context.Context, command string) error {
	var out string
	err := qemu.QMP(ctx, string(m), qmpSocket, qemu.Command{Execute: "human-monitor-command",
		Arguments: map[string]string{"command-line": "qemu-io disk \"" + command + "\""}, Out: &out})
	if err == nil && bytes.Contains([]byte(out), []byte("rror")) {
		err = errors.New(out)
	}
	return err
}

func (m machine) Resize(ctx context.Context, size int64) error {
	return m.qmp(ctx, "block_resize", map[string]any{"node-name": "disk", "size": size})
}

func (m machine) Snapshot(ctx context.Context, name string) error {
	return m.qmp(ctx, "blockdev-snapshot-internal-sync", map[string]string{"device": "disk", "name": name})
}

func (m machine) DeleteSnapshot(ctx context.Context, name string) error {
	return m.qmp(ctx, "blockdev-snapshot-delete-internal-sync", map[string]string{"device": "disk", "name": name})
}
