package fusefile

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/nbd"
)

// disk is an export, over one connection after the other: the export is made anew when
// the disk has grown. What was under way is done again then, which is the same.
type disk struct {
	ctx          context.Context // of the whole process
	path, export string

	mu   sync.RWMutex
	conn *nbd.Client
}

// How long an export that is made anew is waited for, and how often it is looked for.
const (
	redialLimit = 10 * time.Second
	redialPause = 20 * time.Millisecond
)

func open(ctx context.Context, path, export string) (*disk, error) {
	// The socket's directory is all that is within reach later, and its path may be long.
	if err := os.Chdir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	d := &disk{ctx: ctx, path: filepath.Base(path), export: export}
	var err error
	d.conn, err = d.dial()
	return d, err
}

func (d *disk) dial() (*nbd.Client, error) {
	conn, err := new(net.Dialer).DialContext(d.ctx, "unix", d.path)
	if err != nil {
		return nil, err
	}
	c, err := nbd.New(d.ctx, conn, d.export)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (d *disk) now() *nbd.Client {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.conn
}

// do does something, and again over another connection if the one that there was has broken.
func (d *disk) do(fn func(*nbd.Client) error) error {
	for {
		c := d.now()
		err := fn(c)
		if err == nil || !c.Broken() {
			return err
		}
		if e := d.again(c); e != nil {
			return errors.Join(err, e)
		}
	}
}

// again takes the place of a broken connection. A server that is gone is not waited for.
func (d *disk) again(broken *nbd.Client) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != broken {
		return nil // another request was faster
	}
	late := time.NewTimer(redialLimit)
	defer late.Stop()
	for {
		c, err := d.dial()
		if err == nil {
			_ = broken.Close() // it is broken
			d.conn = c
			return nil
		}
		if refused := (*net.OpError)(nil); errors.As(err, &refused) && refused.Op == "dial" {
			return err
		}
		pause := time.NewTimer(redialPause)
		select {
		case <-late.C:
			pause.Stop()
			return err
		case <-d.ctx.Done():
			pause.Stop()
			return d.ctx.Err()
		case <-pause.C:
		}
	}
}

// ReadAt implements io.ReaderAt.
func (d *disk) ReadAt(p []byte, off int64) (n int, err error) {
	err = d.do(func(c *nbd.Client) error { n, err = c.ReadAt(p, off); return err })
	return n, err
}

// WriteAt implements io.WriterAt.
func (d *disk) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.do(func(c *nbd.Client) error { n, err = c.WriteAt(p, off); return err })
	return n, err
}

// Zero implements Disk.
func (d *disk) Zero(off, n int64) error {
	return d.do(func(c *nbd.Client) error { return c.Zero(off, n) })
}

// Flush implements Disk.
func (d *disk) Flush() error { return d.do((*nbd.Client).Flush) }

// Map implements Disk.
func (d *disk) Map(off, n int64) (out []nbd.Extent, err error) {
	err = d.do(func(c *nbd.Client) error { out, err = c.Map(off, n); return err })
	return out, err
}

// Size implements Disk.
func (d *disk) Size() int64 { return d.now().Size() }

// Close implements io.Closer.
func (d *disk) Close() error { return d.now().Close() }

var _ io.ReaderAt = (*disk)(nil)
