package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/container/bridge"
	"github.com/strata-cloud/strata/internal/container/build"
	"github.com/strata-cloud/strata/internal/container/engine"
	"github.com/strata-cloud/strata/internal/container/idmap"
	"github.com/strata-cloud/strata/internal/container/names"
	"github.com/strata-cloud/strata/internal/container/remote"
	"github.com/strata-cloud/strata/internal/container/shims"
	"github.com/strata-cloud/strata/internal/netns"
)

// Config says where the engine lives and how it is named.
type Config struct {
	Dir  string // all files
	Name string // begins the names of namespaces, links and control groups
	Shim string // the program, as an absolute path
	Log  *slog.Logger

	Remap     *idmap.Map // of new containers that do not ask for the host's user namespace; nil: there is none
	Authority string     // file of the certificate authority of the region's own registry
	Cloud     Cloud      // nil: it is the machine's own alone
}

// Daemon is the container engine at work.
type Daemon struct {
	cfg    Config
	ctx    context.Context // of containers' supervision: ends with the engine
	stop   context.CancelFunc
	group  sync.WaitGroup
	engine *engine.Engine
	plane  *bridge.Plane
	names  *names.Server
	Events *Events
	begun  time.Time
	key    string // identifies the engine to clients

	containers records[Record]
	notes      records[Record] // of containers, see note
	volumes    records[Volume]
	networks   records[Network]

	mu     sync.Mutex
	byID   map[string]*live
	byName map[string]*live
	vols   map[string]*Volume
	nets   map[string]*Network // by id
	stale  bool                // the plane is not as nets say
	linked atomic.Bool         // some container has links
	execs  map[string]*execution
	images sync.Mutex // one change of names at a time

	shims      *shims.Pool
	identities identities
	syncing    sync.Mutex         // of networks
	sandboxes  map[string]seat    // of builds
	leaving    map[string]leaving // runs that are over, by container
	volumesUp  map[string]*mounted
	remote     *remote.Registries
	building   sync.Mutex
	builder    *build.Builder // nil until the first build
}

// runDir is where sockets and runc's state are: on a file system that a restart of
// the machine empties, with a short path.
func runDir(name string) string { return filepath.Join("/run/strata", name) }

// New opens the engine and takes over the containers that run.
func New(ctx context.Context, cfg Config) (d *Daemon, err error) {
	d = &Daemon{cfg: cfg, Events: newEvents(), begun: time.Now(), byID: map[string]*live{}, byName: map[string]*live{}, vols: map[string]*Volume{}, nets: map[string]*Network{}, execs: map[string]*execution{},
		names: names.NewServer(cfg.Log), sandboxes: map[string]seat{}, leaving: map[string]leaving{}, volumesUp: map[string]*mounted{}, remote: remote.New(ctx, cfg.Authority, mirrorsOf(cfg.Cloud))}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "containers"), 0o711); err != nil {
		return nil, err
	}
	if d.key, err = ownKey(filepath.Join(cfg.Dir, "engine-id")); err != nil {
		return nil, err
	}
	if err := d.openRecords(); err != nil {
		return nil, fmt.Errorf("containers' records: %w", err)
	}
	d.ctx, d.stop = context.WithCancel(ctx)
	d.engine, err = engine.Start(d.ctx, engine.Config{Dir: filepath.Join(cfg.Dir, "containerd"), SocketDir: runDir(cfg.Name), Shim: cfg.Shim, Log: cfg.Log})
	if err != nil {
		d.stop()
		return nil, err
	}
	d.shims, err = shims.Open(d.ctx, shims.Config{Program: cfg.Shim, Namespace: engine.Namespace, Events: d.engine.Socket, Dir: filepath.Join(runDir(cfg.Name), "p"), Bundles: filepath.Dir(d.bundle("any")), Spaces: netns.Dir, Log: cfg.Log})
	if err == nil {
		d.plane, err = bridge.New(cfg.Name)
	}
	if err == nil {
		err = d.checkRemap()
	}
	if err == nil {
		err = errors.Join(d.cleanBuilds(), d.adopt())
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.group.Go(d.watchDisk)
	return d, nil
}

func (d *Daemon) openRecords() (err error) {
	if d.containers, err = openRecords[Record](filepath.Join(d.cfg.Dir, "records", "containers")); err != nil {
		return err
	}
	if d.notes, err = openRecords[Record](filepath.Join(runDir(d.cfg.Name), "notes")); err != nil {
		return err
	}
	d.notes.brief = true
	if d.volumes, err = openRecords[Volume](filepath.Join(d.cfg.Dir, "records", "volumes")); err != nil {
		return err
	}
	if d.networks, err = openRecords[Network](filepath.Join(d.cfg.Dir, "records", "networks")); err != nil {
		return err
	}
	if d.vols, err = d.volumes.all(); err != nil {
		return err
	}
	if d.nets, err = d.networks.all(); err != nil {
		return err
	}
	return d.defaultNetworks()
}

// ownKey reads the engine's identity and makes it first.
func ownKey(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) > 0 {
		return string(raw), nil
	}
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	key := newID()
	return key, os.WriteFile(path, []byte(key), 0o600)
}

// Close ends the engine. Containers go on.
func (d *Daemon) Close() error {
	d.stop()
	err := d.closeBuilder()
	d.group.Wait()
	for _, c := range d.list() {
		err = errors.Join(err, c.closeResolver())
	}
	if d.plane != nil {
		err = errors.Join(err, d.plane.Close())
	}
	if d.shims != nil {
		err = errors.Join(err, d.shims.Close())
	}
	return errors.Join(err, d.engine.Close())
}

// work is ctx for what a client who goes away does not end.
func (d *Daemon) work() context.Context { return d.engine.Context(d.ctx) }

// rest is ctx for what is seen through even while the engine ends.
func (d *Daemon) rest() context.Context { return d.engine.Context(context.WithoutCancel(d.ctx)) }

// request is ctx for what a client waits for.
func (d *Daemon) request(ctx context.Context) context.Context { return d.engine.Context(ctx) }
