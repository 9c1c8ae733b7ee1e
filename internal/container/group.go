package container

import (
	"errors"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
)

// newTask makes a container's process behind a shim that has room. A shim that was
// killed is found out by that; another one is asked then.
func (d *Daemon) newTask(c *live, cc client.Container, io cio.IO) (client.Task, error) {
	for again := true; ; again = false {
		group, err := d.shims.Take()
		if err != nil {
			return nil, err
		}
		task, err := cc.NewTask(d.work(), func(string) (cio.IO, error) { return io, nil }, client.WithTaskAPIEndpoint(d.shims.Address(group), shimVersion))
		if err == nil {
			c.mu.Lock()
			c.rec.Group = group // written with the start
			c.mu.Unlock()
			return task, nil
		}
		if !shimGone(err) {
			d.shims.Release(group)
			return nil, err
		}
		d.shims.Lost(group)
		if !again {
			return nil, err
		}
	}
}

// shimVersion is that of containerd's protocol with shims.
const shimVersion = 3

// shimGone tells of an error that only says that a shim has ended.
func shimGone(err error) bool {
	return errors.Is(err, ttrpc.ErrClosed) || errdefs.IsUnavailable(err) || strings.Contains(err.Error(), "ttrpc: closed") || strings.Contains(err.Error(), "connect: connection refused")
}
