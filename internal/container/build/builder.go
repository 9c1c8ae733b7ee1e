package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/inline"
	"github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/worker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"github.com/strata-cloud/strata/internal/listener"
)

// Config says what a builder works with.
type Config struct {
	Dir         string // its own files
	RunDir      string // runc's, on a file system that a restart of the machine empties
	Client      *client.Client
	Namespace   string // of containerd
	Snapshotter string
	Group       string // control group above those of build containers
	Hosts       docker.RegistryHosts
	Log         *slog.Logger

	// Sandbox makes a network namespace. release may be called once.
	Sandbox func(context.Context) (path string, release func() error, err error)
	// Name gives an image a name; what had it before is kept.
	Name func(ctx context.Context, name string, target ocispec.Descriptor) error
	// HostGateway is what host-gateway means in --add-host.
	HostGateway string
}

// Builder is BuildKit at work.
type Builder struct {
	cfg      Config
	ctx      context.Context // of sessions of our own: ends with the builder
	stop     context.CancelFunc
	group    sync.WaitGroup
	control  *control.Controller
	sessions *session.Manager
	server   *grpc.Server
	conns    *listener.Queue

	mu   sync.Mutex
	jobs map[string]*job
}

// Used tells whether a builder was ever opened in a directory.
func Used(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cache.db"))
	return err == nil
}

// Open starts BuildKit.
func Open(ctx context.Context, cfg Config) (b *Builder, err error) {
	ctx, stop := context.WithCancel(ctx)
	b = &Builder{cfg: cfg, ctx: ctx, stop: stop, conns: listener.NewQueue(&net.UnixAddr{Name: "docker", Net: "unix"}), jobs: map[string]*job{}}
	defer func() {
		if err != nil {
			stop()
			err = fmt.Errorf("starting the builder: %w", err)
		}
	}()
	for _, dir := range []string{cfg.Dir, cfg.RunDir, b.contexts()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if b.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	if b.control, err = b.newControl(); err != nil {
		return nil, err
	}
	b.server = grpc.NewServer(grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize))
	b.control.Register(b.server)
	b.group.Go(func() {
		if err := b.server.Serve(b.conns); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			cfg.Log.Error("the builder does not answer buildx", "err", err)
		}
	})
	return b, nil
}

func (b *Builder) newControl() (_ *control.Controller, err error) {
	w, err := b.newWorker()
	if err != nil {
		return nil, err
	}
	all := &worker.Controller{}
	if err := all.Add(w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	gw, err := gateway.NewGatewayFrontend(all.Infos(), nil)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	history, err := boltutil.Open(filepath.Join(b.cfg.Dir, "history.db"), 0o600, nil)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	store, err := bboltcachestorage.NewStore(filepath.Join(b.cfg.Dir, "cache.db"))
	if err != nil {
		return nil, errors.Join(err, w.Close(), history.Close())
	}
	c, err := control.NewController(control.Opt{
		SessionManager:   b.sessions,
		WorkerController: all,
		Frontends: map[string]frontend.Frontend{
			frontendName: forwarder.NewGatewayForwarder(all.Infos(), dockerfile.Build),
			"gateway.v0": gw,
		},
		CacheManager: solver.NewCacheManager(b.ctx, "local", store, worker.NewCacheResultStorage(all)),
		CacheStore:   store,
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"local":    local.ResolveCacheImporterFunc(b.sessions),
			"registry": registrycache.ResolveCacheImporterFunc(b.sessions, w.ContentStore(), b.cfg.Hosts),
		},
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"inline":   inline.ResolveCacheExporterFunc(),
			"local":    local.ResolveCacheExporterFunc(b.sessions),
			"registry": registrycache.ResolveCacheExporterFunc(b.sessions, b.cfg.Hosts),
		},
		Entitlements:   []string{entitlements.EntitlementNetworkHost.String()},
		HistoryDB:      history,
		LeaseManager:   w.LeaseManager(),
		ContentStore:   w.ContentStore(),
		GarbageCollect: w.GarbageCollect,
	})
	if err != nil {
		return nil, errors.Join(err, w.Close(), history.Close(), store.Close())
	}
	return c, nil
}

// Close ends builds and BuildKit.
func (b *Builder) Close() error {
	b.stop()
	b.server.Stop()
	b.group.Wait()
	return b.control.Close()
}

// Serve speaks BuildKit's protocol on a connection until that ends.
func (b *Builder) Serve(conn net.Conn) {
	w := &watched{Conn: conn, gone: make(chan struct{})}
	if b.conns.Put(b.ctx, w) == nil {
		<-w.gone
	}
}

// Session takes a client's session: the request's connection changes its direction.
func (b *Builder) Session(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return b.sessions.HandleHTTPRequest(ctx, hijacked{w, cancel}, r)
}
