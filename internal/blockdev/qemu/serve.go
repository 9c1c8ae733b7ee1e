package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/strata-cloud/strata/internal/blockdev/nbd"
)

// Device is a disk's content that a process of QEMU's serves to us alone. It ends
// with Close, and when we end.
type Device struct {
	*nbd.Client
	cmd  *exec.Cmd
	log  *strings.Builder
	stop func() bool
}

// Serve opens the image that opts describes (QEMU's image options) in dir. With a
// snapshot, that is shown instead of the content now.
func (t Tools) Serve(ctx context.Context, dir string, secrets []Secret, opts, snapshot string, readOnly bool) (_ *Device, err error) {
	listener, conn, err := socketPair(ctx)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	objects, pipes, err := t.pass(secrets, firstFD+1)
	if err != nil {
		return nil, err
	}
	defer closeAll(pipes)
	args := append(objects, "--image-opts", opts, "--discard=unmap", "--detect-zeroes=unmap")
	if readOnly {
		args = append(args, "--read-only")
	}
	if snapshot != "" {
		args = append(args, "--load-snapshot=snapshot.name="+snapshot)
	}
	// Handed sockets are meant for one process, which the shell becomes.
	cmd, err := t.Command(ctx, dir, "sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd "$@"`, "qemu-nbd"}, args...)...)
	if err != nil {
		return nil, err
	}
	d := &Device{cmd: cmd, log: &strings.Builder{}}
	cmd.Stderr, cmd.ExtraFiles = d.log, append([]*os.File{listener}, pipes...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running qemu-nbd: %w", err)
	}
	listener.Close() // so that the connection breaks if qemu-nbd ends
	if d.Client, err = nbd.New(ctx, conn, ""); err != nil {
		conn.Close()
		cmd.Process.Kill()
		return nil, fmt.Errorf("opening a disk: %w", errors.Join(err, cmd.Wait(), errors.New(strings.TrimSpace(d.log.String()))))
	}
	d.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return d, nil
}

// Close ends the process; what was written and flushed is in the file, and so is
// the rest.
func (d *Device) Close() error {
	d.stop()
	err := d.Client.Close()
	if e := d.cmd.Wait(); e != nil {
		err = errors.Join(err, fmt.Errorf("qemu-nbd: %w: %s", e, strings.TrimSpace(d.log.String())))
	}
	return err
}

// PID is the serving process's.
func (d *Device) PID() int { return d.cmd.Process.Pid }

// socketPair is a listening socket that nobody else can reach, and a connection to it.
func socketPair(ctx context.Context) (*os.File, net.Conn, error) {
	dir, err := os.MkdirTemp("", "strata-nbd-") // mode 0700
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, nil, err
	}
	f, err := l.File()
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return f, conn, nil
}
