package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/qemu"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// Names in an export's directory, and of the daemon's objects.
const (
	monitor   = "qmp.sock"
	socket    = "nbd.sock"
	pskDir    = "psk"
	keysFile  = "keys.psk"
	addrFile  = "address"
	node      = "disk"
	exportID  = "export"
	keyID     = "key"
	tlsID     = "tls"
	linkExt   = ".nbd"
	startWait = 20 * time.Second
)

// Name is what clients ask for.
const Name = "volume"

// Config says where exports are and how their daemons run.
type Config struct {
	Dir     string
	Tools   qemu.Tools
	Cgroups *cgroup.Manager // nil: no limits
	Log     *slog.Logger
}

// Manager runs the exports of one node.
type Manager struct {
	Config
	mu     sync.Mutex
	wanted map[string]*export
}

// export is one wanted export.
type export struct {
	mu     sync.Mutex // one change at a time
	id     string
	dir    string
	driver volumes.Driver
	ref    nodeapi.VolumeRef
	remote *remote         // nil: by the socket alone
	links  map[string]bool // directories that have the socket
}

var idPattern = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,99}$`)

// New makes a manager. Daemons that run are known again by Ensure.
func New(c Config) (*Manager, error) {
	if err := os.MkdirAll(c.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the exports' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(c.Dir) // as /proc shows it
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	return &Manager{Config: c, wanted: map[string]*export{}}, nil
}

// Ensure serves the volume by a socket alone and puts a link of that into dir,
// unless that is "": its name is returned. Conflict: it is served at an address.
func (m *Manager) Ensure(ctx context.Context, d volumes.Driver, v nodeapi.VolumeRef, dir string) (string, error) {
	e, err := m.want(v.ID)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.remote != nil {
		return "", errs.Conflictf("volume %s is exported at %s", v.ID, e.remote.addr)
	}
	e.driver, e.ref = d, v
	if dir != "" {
		e.links[dir] = true
	}
	if err := m.ensure(ctx, e); err != nil {
		return "", fmt.Errorf("exporting volume %s: %w", v.ID, err)
	}
	return v.ID + linkExt, nil
}

func (m *Manager) want(id string) (*export, error) {
	if !idPattern.MatchString(id) {
		return nil, errs.Invalidf("%q is no id of a volume", id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted[id] == nil {
		m.wanted[id] = &export{id: id, dir: filepath.Join(m.Dir, id), links: map[string]bool{}}
	}
	return m.wanted[id], nil
}

// ensure starts the daemon unless it runs, and renews the links of its socket.
func (m *Manager) ensure(ctx context.Context, e *export) error {
	there, err := e.serves(ctx)
	if err != nil {
		return err
	}
	if !there {
		if err := m.start(ctx, e); err != nil {
			return err
		}
	}
	for dir := range e.links {
		if err := e.link(dir); errors.Is(err, os.ErrNotExist) {
			delete(e.links, dir) // the machine is gone
		} else if err != nil {
			return err
		}
	}
	return nil
}

// dying is how long a daemon that does not answer may take to be gone.
const dying = time.Second

// serves tells whether the volume's daemon is there, and has it serve: a crash may
// have come while the volume grew. One that is just dying is not there.
func (e *export) serves(ctx context.Context) (bool, error) {
	if len(qemu.Workers(e.dir)) == 0 {
		return false, nil
	}
	err := serve(ctx, e.dir)
	if err == nil {
		return true, nil
	}
	limit, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	gone := func(context.Context) (bool, error) { return len(qemu.Workers(e.dir)) == 0, nil }
	if wait.Until(limit, "the storage daemon to end", 5*time.Millisecond, gone) != nil {
		return true, err
	}
	return false, nil
}

// link gives a machine the daemon's socket of now.
func (e *export) link(dir string) error {
	from, to := filepath.Join(e.dir, socket), filepath.Join(dir, e.id+linkExt)
	a, err := os.Lstat(from)
	if err != nil {
		return fmt.Errorf("the daemon's socket is missing: %s", err) // not: the machine is gone
	}
	if b, err := os.Lstat(to); err == nil && os.SameFile(a, b) {
		return nil
	}
	tmp := to + ".new"
	os.Remove(tmp)
	if err := os.Link(from, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// start runs a daemon and waits until it serves.
func (m *Manager) start(ctx context.Context, e *export) (err error) {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{monitor, socket} {
		os.Remove(filepath.Join(e.dir, name))
	}
	if err := m.Tools.Own(e.dir); err != nil {
		return err
	}
	disk, err := e.driver.Link(ctx, e.ref, e.dir)
	if err != nil {
		return err
	}
	args, keys, err := m.arguments(e, disk)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	// The monitor's socket comes first, the server is ready when the monitor answers.
	return qemu.Service{Tools: m.Tools, Dir: e.dir, Secrets: keys, Program: "qemu-storage-daemon", Args: args, LogDir: e.dir, Cgroups: m.Cgroups, Group: group(e.id),
		Ready: func(ctx context.Context) (bool, error) {
			n, err := exports(ctx, e.dir)
			return err == nil && n > 0, nil
		}}.Start(ctx)
}

func group(id string) string { return "export-" + id }

// arguments are the daemon's; the file is described as the driver links it.
func (m *Manager) arguments(e *export, disk volumes.Disk) ([]string, []qemu.Secret, error) {
	if disk.File == "" {
		return nil, nil, errs.New(errs.NotImplemented, "a volume of driver %s needs no export", e.ref.Driver)
	}
	format := "driver=" + disk.Format + ",node-name=" + node + ",file=file,discard=unmap"
	var keys []qemu.Secret
	if len(e.ref.Key) > 0 {
		keys = []qemu.Secret{{ID: keyID, Key: e.ref.Key}}
		format += ",encrypt.format=luks,encrypt.key-secret=" + keyID
	}
	server := "addr.type=unix,addr.path=" + socket
	var args []string
	if e.remote != nil {
		host, port, err := net.SplitHostPort(e.remote.addr)
		if err != nil {
			return nil, nil, errs.Invalidf("%q is not host:port", e.remote.addr)
		}
		args = append(args, "--object", "tls-creds-psk,id="+tlsID+",endpoint=server,dir="+pskDir)
		server = "addr.type=inet,addr.host=" + host + ",addr.port=" + port + ",tls-creds=" + tlsID
	}
	return append(args, "--chardev", "socket,id=monitor,path="+monitor+",server=on,wait=off", "--monitor", "chardev=monitor",
		"--blockdev", "driver=file,node-name=file,filename="+disk.File+",discard=unmap",
		"--blockdev", format, "--nbd-server", server,
		"--export", "type=nbd,id="+exportID+",node-name="+node+",name="+Name+",writable=on"), keys, nil
}

// Adopt knows again an export that an earlier manager began, and keeps it up: with
// the directories that have its socket. Without v's key an encrypted volume's daemon
// that ends stays down until the next Ensure.
func (m *Manager) Adopt(ctx context.Context, d volumes.Driver, v nodeapi.VolumeRef, dirs ...string) error {
	e, err := m.want(v.ID)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.driver, e.ref = d, v
	if e.remote, err = m.readRemote(e); err != nil {
		return err
	}
	for _, dir := range dirs {
		if e.remote == nil {
			e.links[dir] = true
		}
	}
	_, err = e.serves(ctx) // Run starts one that is not there
	return err
}

// List names the volumes that have an export, running or not.
func (m *Manager) List() ([]string, error) {
	entries, err := os.ReadDir(m.Dir)
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, err
}

// Unlink takes the socket from a machine.
func (m *Manager) Unlink(id, dir string) error {
	if err := os.Remove(filepath.Join(dir, id+linkExt)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.mu.Lock()
	e := m.wanted[id]
	m.mu.Unlock()
	if e != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.links, dir)
	}
	return nil
}

// End ends the export and removes every trace of it.
func (m *Manager) End(ctx context.Context, id string) error {
	e, err := m.want(id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	m.mu.Lock()
	delete(m.wanted, id)
	m.mu.Unlock()
	if err := e.stop(ctx); err != nil {
		return fmt.Errorf("ending the export of volume %s: %w", id, err)
	}
	if m.Cgroups != nil {
		if err := m.Cgroups.Remove(ctx, group(id)); err != nil {
			return err
		}
	}
	return os.RemoveAll(e.dir)
}

// EndAll ends the exports that there are, wanted or not.
func (m *Manager) EndAll(ctx context.Context) error {
	ids, err := m.List()
	for _, id := range ids {
		err = errors.Join(err, m.End(ctx, id))
	}
	return err
}

// Run starts daemons again that end although they are wanted, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		all := make([]*export, 0, len(m.wanted))
		for _, e := range m.wanted {
			all = append(all, e)
		}
		m.mu.Unlock()
		for _, e := range all {
			m.revive(ctx, e)
		}
	}
}

func (m *Manager) revive(ctx context.Context, e *export) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m.mu.Lock()
	wanted := m.wanted[e.id] == e && e.driver != nil
	m.mu.Unlock()
	if !wanted || len(qemu.Workers(e.dir)) > 0 {
		return
	}
	m.Log.Warn("starting an export again that ended", "volume", e.id)
	if err := m.ensure(ctx, e); err != nil && ctx.Err() == nil {
		m.Log.Error("an export stays down", "volume", e.id, "err", err)
	}
}
