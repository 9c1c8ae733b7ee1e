package container

import (
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
)

// groupAnnotation tells containerd's shim for runc which containers share a process.
const groupAnnotation = "io.containerd.runc.v2.group"

// groupSize is how many containers are behind one shim. A shim takes about 4 MB, and
// each further container a tenth of that; but they all lose their log and their exit
// code if it is killed.
const groupSize = 16

// joinGroup puts a container that is about to start into a group that has room.
func (d *Daemon) joinGroup(c *live) {
	d.grouping.Lock() // until the choice is booked
	defer d.grouping.Unlock()
	sizes := map[string]int{}
	for _, o := range d.list() {
		if r := o.record(); o != c && r.Group != "" && (r.State.Running() || o.isJoining()) {
			sizes[r.Group]++
		}
	}
	group := fullest(sizes)
	if group == "" {
		group = d.cfg.Name + "-" + newID()[:12]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec.Group, c.joining = group, true // written with the start
}

// fullest is the group with the most containers that has room for one more; "": none.
func fullest(sizes map[string]int) (group string) {
	for g, n := range sizes {
		if n < groupSize && (group == "" || n > sizes[group] || n == sizes[group] && g < group) {
			group = g
		}
	}
	return group
}

func (c *live) isJoining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joining
}

// joinedGroup ends what joinGroup began: the run is booked, or there is none.
func (c *live) joinedGroup() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joining = false
}

// shimGone tells of an error that only says that a shim has ended.
func shimGone(err error) bool {
	return errors.Is(err, ttrpc.ErrClosed) || errdefs.IsUnavailable(err) || strings.Contains(err.Error(), "ttrpc: closed") || strings.Contains(err.Error(), "connect: connection refused")
}
