package fsmount

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/fsmount/fusefile"
	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

const (
	monitor = "qmp.sock"
	socket  = "nbd.sock"
	nearDir = "near" // of the daemon that has no rights
	pskDir  = "psk"
	keyFile = "keys.psk"
	// of the near daemon's objects
	nbdNode     = "nbd"
	limitedNode = "limited"
	exportID    = "export"

	startWait = 40 * time.Second // longer than openWait
	openWait  = 30               // seconds: a machine that was started with this one may be later
	// reconnect is how many seconds a request waits for a server that is away, before it fails.
	reconnect = 60
)

// writeKey puts the key where the daemon reads it.
func (m *Manager) writeKey(dir string, r *nodeapi.Remote) error {
	near := filepath.Join(dir, nearDir)
	keys := filepath.Join(near, pskDir)
	if err := errors.Join(os.MkdirAll(keys, 0o700), m.Tools.Own(near), m.Tools.Own(keys)); err != nil {
		return err
	}
	file := filepath.Join(keys, keyFile)
	return errors.Join(writeFile(file, []byte(r.User+":"+hex.EncodeToString(r.PSK)+"\n")), m.Tools.Own(file))
}

func group(id string) string { return "mount-" + id }

// serve runs the daemons and waits until the volume is a file.
func (m *Manager) serve(ctx context.Context, id string, from source) error {
	dir := m.dir(id)
	near := filepath.Join(dir, nearDir)
	if err := errors.Join(ignoreMissing(os.Remove(filepath.Join(near, monitor))), ignoreMissing(os.Remove(filepath.Join(near, socket))),
		os.WriteFile(filepath.Join(dir, diskFile), nil, 0o600)); err != nil {
		return err
	}
	opts, err := reaching(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	service := qemu.Service{Tools: m.Tools, Dir: near, Program: "qemu-storage-daemon", Args: opts, LogDir: dir, Cgroups: m.Cgroups, Group: group(id),
		Ready: func(ctx context.Context) (bool, error) {
			var out []map[string]any // the server is ready when the monitor answers
			err := qemu.QMP(ctx, near, monitor, qemu.Command{Execute: "query-block-exports", Out: &out})
			return err == nil && len(out) > 0, nil
		}}
	if err := service.Start(ctx); err != nil {
		return err
	}
	mode := "rw"
	if from.ReadOnly {
		mode = "ro"
	}
	// It mounts, and gives up its rights.
	err = qemu.Service{Dir: dir, Program: m.Program, Args: []string{fusefile.Verb, nearDir + "/" + socket, export.Name, filepath.Join(dir, diskFile), mode, strconv.Itoa(m.Tools.UID)},
		LogDir: dir, Cgroups: m.Cgroups, Group: group(id), Ready: func(context.Context) (bool, error) { return mountedAt(filepath.Join(dir, diskFile)) }}.Start(ctx)
	if err != nil {
		return errors.Join(err, qemu.EndWorkers(context.WithoutCancel(ctx), dir))
	}
	return nil
}

// reaching are the arguments of the daemon that has the volume over the network.
func reaching(from source) ([]string, error) {
	host, port, err := net.SplitHostPort(from.Addr)
	if err != nil {
		return nil, errs.Invalidf("%q is not host:port", from.Addr)
	}
	a := newArgs()
	a.add("--object", map[string]any{"qom-type": "tls-creds-psk", "id": "tls", "endpoint": "client", "dir": pskDir, "username": from.User})
	a.add("--blockdev", map[string]any{"driver": "nbd", "node-name": nbdNode, "server": map[string]any{"type": "inet", "host": host, "port": port}, "export": export.Name,
		"tls-creds": "tls", "reconnect-delay": reconnect, "open-timeout": openWait, "discard": "unmap", "read-only": from.ReadOnly})
	top := nbdNode
	if l := limits(from.Limits); len(l) > 0 {
		top = limitedNode
		a.add("--object", map[string]any{"qom-type": "throttle-group", "id": "limits", "limits": l})
		a.add("--blockdev", map[string]any{"driver": "throttle", "node-name": top, "throttle-group": "limits", "file": nbdNode, "discard": "unmap", "read-only": from.ReadOnly})
	}
	a.list = append(a.list, "--nbd-server", "addr.type=unix,addr.path="+socket)
	a.add("--export", map[string]any{"type": "nbd", "id": exportID, "node-name": top, "name": export.Name, "writable": !from.ReadOnly})
	return a.list, a.err
}

// args are arguments that are made of JSON.
type args struct {
	list []string
	err  error
}

func newArgs() *args {
	return &args{list: []string{"--chardev", "socket,id=monitor,path=" + monitor + ",server=on,wait=off", "--monitor", "chardev=monitor"}}
}

func (a *args) add(flag string, v map[string]any) {
	raw, err := json.Marshal(v)
	a.list, a.err = append(a.list, flag, string(raw)), errors.Join(a.err, err)
}

// limits are those of a volume in QEMU's words.
func limits(l *nodeapi.IOLimits) map[string]any {
	out := map[string]any{}
	if l == nil {
		return out
	}
	for name, n := range map[string]int64{"iops-total": l.TotalIOPS, "iops-read": l.ReadIOPS, "iops-write": l.WriteIOPS, "bps-total": l.TotalBytes, "bps-read": l.ReadBytes, "bps-write": l.WriteBytes,
		"iops-total-max": l.TotalIOPSMax, "iops-read-max": l.ReadIOPSMax, "iops-write-max": l.WriteIOPSMax, "bps-total-max": l.TotalBytesMax, "bps-read-max": l.ReadBytesMax, "bps-write-max": l.WriteBytesMax,
		"iops-size": l.SizeIOPS} {
		if n > 0 {
			out[name] = n
		}
	}
	return out
}

// unmountWait is how long the file system's last writes may take. If the volume cannot
// be reached, they fail when its daemon is ended.
const unmountWait = 20 * time.Second

// takeApart undoes mount and serve; absent is fine.
func (m *Manager) takeApart(ctx context.Context, dir string) error {
	if err := m.unmount(ctx, dir); err != nil {
		return err
	}
	if err := clearLoops(filepath.Join(dir, diskFile)); err != nil {
		return err
	}
	polite, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	if err := detach(filepath.Join(dir, diskFile)); err != nil { // which ends its server
		return err
	}
	if near := filepath.Join(dir, nearDir); len(qemu.Workers(near)) > 0 {
		// It flushes and closes; if it cannot, it is killed below.
		_ = qemu.QMP(polite, near, monitor, qemu.Command{Execute: "quit"})
	}
	if qemu.AwaitWorkers(polite, dir) != nil {
		if err := qemu.EndWorkers(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// unmount ends what is mounted of the volume. Its daemon is killed if that takes too long.
func (m *Manager) unmount(ctx context.Context, dir string) error {
	at := m.place(dir)
	for {
		mounted, err := mountedAt(at)
		if err != nil || !mounted {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- unix.Unmount(at, 0) }() // which nothing interrupts
		late := time.NewTimer(unmountWait)
		select {
		case err = <-done:
		case <-late.C:
			m.Log.Warn("a volume that cannot be reached is let go of: its last writes are lost", "dir", dir)
			if err := qemu.EndWorkers(ctx, dir); err != nil {
				return err
			}
			err = <-done
		}
		late.Stop()
		if errors.Is(err, unix.EBUSY) { // by a process that has it open a moment longer, such as docker cp
			if err := wait.Pause(ctx, 50*time.Millisecond); err != nil {
				return fmt.Errorf("the volume's file system is in use: %w", err)
			}
			continue
		}
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting the volume: %w", err)
		}
	}
}

// detach unmounts the volume's file, which may be in use for a moment more.
func detach(file string) error {
	for {
		mounted, err := mountedAt(file)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", file, err)
		}
	}
}
