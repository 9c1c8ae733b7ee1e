package integrity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	"github.com/strata-cloud/strata/internal/blockdev/nbd"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// writer has a volume open and does I/O on it.
type writer interface {
	write(ctx context.Context, off int64, n int, pattern byte) error
	flush(ctx context.Context) error
	close(ctx context.Context) error
	kill() error
	resized(ctx context.Context) error // after the volume grew
	describe(t *task)                  // to the agent
}

// guest is a QEMU.
type guest struct {
	machine
	cmd *exec.Cmd
}

func startGuest(ctx context.Context, t *task, v nodeapi.VolumeRef) (writer, error) {
	d, _, _, err := t.parts(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(t.Dir, "machine")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), tools().Own(dir)); err != nil {
		return nil, err
	}
	if _, err := d.Link(ctx, v, dir); err != nil {
		return nil, err
	}
	cmd, err := tools().Command(ctx, dir, "qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none",
		"-chardev", "socket,id=m,path="+qmpSocket+",server=on,wait=off", "-mon", "chardev=m,mode=control",
		"-blockdev", "driver=file,node-name=file,filename=vol-"+v.ID+",discard=unmap", "-blockdev", "driver=qcow2,node-name=disk,file=file,discard=unmap")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &guest{machine(dir), cmd}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = wait.Until(ctx, "QEMU", 2*time.Millisecond, func(ctx context.Context) (bool, error) { return g.qmp(ctx, "query-status", nil) == nil, nil })
	if err != nil {
		return nil, errors.Join(err, g.kill(), errors.New(out.String()))
	}
	return g, nil
}

func (g *guest) write(ctx context.Context, off int64, n int, pattern byte) error {
	return g.io(ctx, fmt.Sprintf("write -q -P %d %d %d", pattern, off, n))
}
func (g *guest) flush(ctx context.Context) error { return g.io(ctx, "flush") }
func (g *guest) describe(t *task)                { t.Machine = string(g.machine) }
func (g *guest) resized(context.Context) error   { return nil }

func (g *guest) close(context.Context) error {
	return errors.Join(g.cmd.Process.Signal(syscall.SIGTERM), g.cmd.Wait())
}

func (g *guest) kill() error {
	err := g.cmd.Process.Kill()
	g.cmd.Wait()
	return err
}

// client writes through a storage daemon.
type client struct {
	*nbd.Client
	exports *export.Manager
	id, dir string
}

func startExport(ctx context.Context, t *task, v nodeapi.VolumeRef) (writer, error) {
	d, _, m, err := t.parts(ctx)
	if err != nil {
		return nil, err
	}
	c := &client{exports: m, id: v.ID, dir: filepath.Join(t.Dir, "client")}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := m.Ensure(ctx, d, v, c.dir); err != nil {
		return nil, err
	}
	return c, c.resized(ctx)
}

func (c *client) resized(ctx context.Context) error {
	if c.Client != nil {
		c.Client.Close()
	}
	links, err := filepath.Glob(filepath.Join(c.dir, c.id+"*"))
	if err != nil || len(links) != 1 {
		return fmt.Errorf("links %s, %w", strings.Join(links, " "), err)
	}
	conn, err := net.Dial("unix", links[0])
	if err != nil {
		return err
	}
	c.Client, err = nbd.New(ctx, conn, export.Name)
	return err
}

func (c *client) write(_ context.Context, off int64, n int, pattern byte) error {
	_, err := c.WriteAt(bytes.Repeat([]byte{pattern}, n), off)
	return err
}
func (c *client) flush(context.Context) error { return c.Flush() }
func (c *client) describe(t *task)            { t.Exported = true }

func (c *client) close(ctx context.Context) error {
	return errors.Join(c.Client.Close(), c.exports.Unlink(c.id, c.dir), c.exports.End(ctx, c.id))
}

func (c *client) kill() error {
	for _, pid := range c.exports.PIDs(c.id) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	if c.Client != nil {
		c.Client.Close()
	}
	return errors.Join(c.exports.Unlink(c.id, c.dir), c.exports.End(context.Background(), c.id))
}
