package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/internal/container/names"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Record is what is kept of a container.
type Record struct {
	ID, Name   string
	Created    time.Time
	Path       string // what runs in it
	Args       []string
	Image      string              // id
	ImageName  string              // containerd's name of it at the time
	Manifest   *ocispec.Descriptor `json:",omitempty"` // of this machine's part of the image
	Config     *container.Config
	HostConfig *container.HostConfig
	Mounts     []container.MountPoint
	Endpoints  map[string]*Endpoint // by network's name
	Bound      nat.PortMap          // ports of the host while it runs
	Links      map[string]string    `json:",omitempty"` // by alias, ids of others on the default bridge
	State      State
	Restarts   int
	Group      string // the shim behind it; "" before the first start
	Stopped    bool   // by a user: no policy starts it again
	Removing   bool
	Ports      []nodeapi.ContainerPort   // of a project's container: its devices
	Volumes    []nodeapi.ContainerVolume // of block storage, likewise; without their keys
	Project    bool                      // it is a project's
	IDs        *idmap.Map                `json:",omitempty"` // of its user namespace; nil: it is in the host's
	Changes    uint64                    // so far: which of two records is the later one
}

// State is where a container is in its life.
type State struct {
	Status     container.ContainerState
	Pid        int
	ExitCode   int
	Error      string
	OOMKilled  bool
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *container.Health `json:",omitempty"` // nil: nothing looks after it
}

// Running tells whether there is a process.
func (s State) Running() bool {
	return s.Status == container.StateRunning || s.Status == container.StatePaused
}

// live is a container at work.
type live struct {
	id string
	op sync.Mutex // one lifecycle operation at a time

	mu      sync.Mutex
	rec     Record
	task    client.Task
	exit    chan struct{} // closed when the present or next run is over and booked, then another
	begun   chan struct{} // closed when the next run has begun or has failed to, then another
	removed chan struct{}
	execs   map[string]*execution
	retry   context.CancelFunc // of a restart that waits
	delay   time.Duration      // that it waited
	kept    bool               // at its end, come what may
	readers map[*Attach]bool   // whom the container's output waits for
	left    chan struct{}      // closed when nothing of the last run is left on the machine; nil: nothing is

	resolver *names.Resolver            // of a container on a network with names
	view     atomic.Pointer[names.View] // what it has to know
}

func newLive(r Record) *live {
	return &live{id: r.ID, rec: r, exit: make(chan struct{}), begun: make(chan struct{}), removed: make(chan struct{}), execs: map[string]*execution{}}
}

// record is a copy that may be read at leisure; what it points to is not changed in place.
func (c *live) record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// change changes the record and keeps it.
func (d *Daemon) change(c *live, f func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.rec)
	c.rec.Changes++
	if c.rec.brief() {
		return d.notes.put(c.id, &c.rec)
	}
	return d.containers.put(c.id, &c.rec)
}

// note changes what of a record is of no use once the machine has been started anew:
// what a run has on it.
func (d *Daemon) note(c *live, f func(*Record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.rec)
	c.rec.Changes++
	return d.notes.put(c.id, &c.rec)
}

// brief tells whether a container does not outlive the machine's run: with that it ends,
// and with its end it wants to be removed. One with volumes or views of images is kept
// until they are removed as well.
func (r *Record) brief() bool {
	return r.HostConfig.AutoRemove && !slices.ContainsFunc(r.Mounts, func(m container.MountPoint) bool {
		return m.Type == mount.TypeVolume || m.Type == mount.TypeImage
	})
}

// loadContainers reads the records of containers. A note without a record is of one that
// has none, or else was being removed.
func (d *Daemon) loadContainers() (map[string]*Record, error) {
	recs, err := d.containers.all()
	if err != nil {
		return nil, err
	}
	notes, err := d.notes.all()
	if err != nil {
		return nil, err
	}
	for id, n := range notes {
		if r := recs[id]; r == nil && n.brief() || r != nil && n.Changes > r.Changes {
			recs[id] = n
		}
	}
	return recs, nil
}

// dropRecord removes a container's record, and its notes before.
func (d *Daemon) dropRecord(id string) error {
	if err := d.notes.remove(id); err != nil {
		return err
	}
	return d.containers.remove(id)
}

// running gives the task of a container that runs.
func (c *live) running() (client.Task, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.task == nil || !c.rec.State.Running() {
		return nil, errs.Conflictf("container %s is not running", c.id)
	}
	return c.task, nil
}

func (c *live) keep(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = yes
}

// dir is where a container's own files are.
func (d *Daemon) dir(id string) string { return filepath.Join(d.cfg.Dir, "containers", id) }

func (d *Daemon) logPath(id string) string { return filepath.Join(d.dir(id), "log", "log") }

// find gives the container with the id, the name, or an id that begins so.
func (d *Daemon) find(ref string) (*live, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.byID[ref]; c != nil {
		return c, nil
	}
	if c := d.byName[strings.TrimPrefix(ref, "/")]; c != nil {
		return c, nil
	}
	var found *live
	for id, c := range d.byID {
		if ref != "" && strings.HasPrefix(id, ref) {
			if found != nil {
				return nil, errs.Invalidf("multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, errs.NotFoundf("No such container: %s", ref)
	}
	return found, nil
}

// locked finds a container for an operation, which others wait for until done is called.
func (d *Daemon) locked(ref string) (c *live, done func(), err error) {
	if c, err = d.find(ref); err != nil {
		return nil, nil, err
	}
	c.op.Lock()
	return c, c.op.Unlock, nil
}

// list gives every container.
func (d *Daemon) list() []*live {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*live, 0, len(d.byID))
	for _, c := range d.byID {
		out = append(out, c)
	}
	return out
}

// nameRE is Docker's for containers, volumes and networks.
var nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// newID makes an id as Docker's are. One that could be read as a number is no good
// as a host name.
func newID() string {
	for {
		var b [32]byte
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])
		if strings.Trim(id[:12], "0123456789") != "" {
			return id
		}
	}
}

// tell sends an event about a container.
func (d *Daemon) tell(c *live, action events.Action, more ...string) {
	r := c.record()
	attrs := map[string]string{}
	for k, v := range r.Config.Labels {
		attrs[k] = v
	}
	attrs["image"], attrs["name"] = r.Config.Image, r.Name
	for i := 0; i+1 < len(more); i += 2 {
		attrs[more[i]] = more[i+1]
	}
	d.Events.send(events.ContainerEventType, action, c.id, attrs)
}
