package region

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/cluster/ingress"
	"github.com/strata-cloud/strata/internal/cluster/services"
	"github.com/strata-cloud/strata/internal/compute"
	"github.com/strata-cloud/strata/internal/docker"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/image"
	"github.com/strata-cloud/strata/internal/kube/drain"
	"github.com/strata-cloud/strata/internal/listener"
	"github.com/strata-cloud/strata/internal/loadbalancer"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/placement"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/registry"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume"
)

// Region is a running region: every part, in the order in which it was built.
type Region struct {
	cfg   Config
	begun time.Time
	ready time.Time

	DB        *store.DB
	boot      *store.Collection[bootMark]
	Sagas     *saga.Engine
	Nodes     *nodes.Registry
	Identity  *identity.Service
	Image     *image.Service
	Placement *placement.Service
	Network   *network.Service
	Volume    *volume.Service
	Compute   *compute.Service
	Registry  *registry.Service
	Docker    *docker.Service
	Balancers *loadbalancer.Service
	Cluster   *cluster.Service
	Policy    *policy.Engine
	handler   http.Handler
	mirrors   *listener.Queue // where nodes ask for images of other registries
	host      *host           // this machine as a node of the pool; nil among several members
	council   *council        // nil: no other machine can take part
}

// Run builds a region, calls ready when it serves, and works until ctx ends.
// Servers keep running when it returns.
func Run(ctx context.Context, cfg Config, ready func(*Region)) (err error) {
	if err := Check(&cfg); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o711); err != nil {
		return fmt.Errorf("making the data directory: %w; choose another with --data-dir", err)
	}
	if cfg.Cluster != "" {
		return runCouncil(ctx, cfg, nil, ready)
	}
	r := &Region{cfg: cfg, begun: time.Now()}
	listener, err := listen(&r.cfg)
	if err != nil {
		return err
	}
	defer func() {
		if e := listener.Close(); !errors.Is(e, net.ErrClosed) { // the server closes it too
			err = errors.Join(err, e)
		}
	}()
	if err := r.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.DB.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	if err := r.start(ctx, &group); err != nil {
		return err
	}
	return r.serve(ctx, listener, func() {
		r.ready = time.Now()
		ready(r)
	})
}

// open builds every part over the store and loads what is in it.
func (r *Region) open(ctx context.Context) error {
	backend, err := r.backend(ctx)
	if err != nil {
		return err
	}
	opt := store.Options{Backend: backend, Log: r.cfg.Log}
	if r.council != nil {
		opt.Member, opt.Fenced = r.cfg.Node, true
	}
	if r.DB, err = store.Open(ctx, opt); err != nil {
		return errors.Join(err, backend.Close())
	}
	if err := r.build(); err != nil {
		return errors.Join(err, r.DB.Close())
	}
	if err := r.DB.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("loading the store: %w", err), r.DB.Close())
	}
	return nil
}

// backend is the store's: this process's own, or that of the member that it is.
func (r *Region) backend(ctx context.Context) (store.Backend, error) {
	if r.council != nil {
		return r.council.member.Backend(), nil
	}
	return store.NewEtcd(ctx, store.EtcdOptions{Dir: r.cfg.path("store"), Log: r.cfg.Log})
}

func (r *Region) build() (err error) {
	log, db := r.cfg.Log, r.DB
	r.boot = store.Register(db, store.Schema[bootMark]{Service: "region", Kind: "boot", Version: 1, ID: func(m *bootMark) string { return m.ID }})
	r.Sagas = saga.New(db, saga.Options{Log: log})
	r.Nodes = nodes.New(db)
	if r.Identity, err = identity.New(db, identity.Options{PublicURL: r.cfg.url(), Log: log}); err != nil {
		return err
	}
	r.Image = image.New(image.Options{DB: db, Log: log, Dir: r.cfg.path("images"), NewInspector: newInspector})
	r.Placement = placement.New(placement.Options{DB: db, Log: log})
	r.Network = network.New(network.Options{DB: db, Log: log, Nodes: hostsForNetwork{r.Nodes}})
	r.Volume = volume.New(volume.Options{DB: db, Sagas: r.Sagas, Nodes: r.Nodes, Log: log, Images: imagesForVolume{r.Image}, Servers: serversForVolume{r}})
	r.Compute = compute.New(compute.Options{DB: db, Sagas: r.Sagas, Nodes: r.Nodes, Log: log,
		Images: imagesForCompute{r.Image}, Networks: networksForCompute{r.Network}, Placement: placementForCompute{r.Placement}, ProviderID: placement.ProviderID,
		SecurityGroups: groupsForCompute{r.Network}, ImageProxy: imageProxy{r.Image}, AddressProxy: addressProxy{r.Network}, VolumeProxy: volumeProxy{r.Volume}, Volumes: volumesForCompute{r.Volume}, HasProject: r.hasProject, Self: r.Identity.ServiceCredentials, ReclaimAfter: r.cfg.ReclaimAfter})
	r.Registry = registry.New(registry.Options{DB: db, Log: log, Dir: r.cfg.path(registryDir), Identity: identityForRegistry{r}, Mirrors: r.cfg.RegistryMirrors, MirrorLimit: int64(r.cfg.RegistryMirrorGiB) << 30,
		Workers: func(w registry.Worker) (string, error) { return r.Cluster.PullsFor(w.Node, w.Cluster) }})
	r.mirrors = listener.NewQueue(&net.UnixAddr{Name: "mirrors", Net: "pipe"})
	r.Docker = docker.New(docker.Options{DB: db, Log: log, Nodes: r.Nodes, Identity: identityForDocker{r.Identity}, Images: imagesForDocker{r.Registry}, Networks: networksForDocker{r.Network},
		Volumes: volumesForDocker{r.Volume}, Placement: placementForDocker{r.Placement}, Takes: r.Compute.Takes, Version: r.cfg.Version, Registry: []string{r.cfg.host()}})
	r.Balancers = loadbalancer.New(loadbalancer.Options{DB: db, Log: log, Networks: networksForBalancers{r.Network}, Hosts: hostsForNetwork{r.Nodes}.balancing})
	r.Cluster = cluster.New(cluster.Options{DB: db, Sagas: r.Sagas, Nodes: r.Nodes, Log: log, Resources: resourcesForCluster{r}, Placement: placementForDocker{r.Placement}, Pool: poolForCluster{r}, Networks: networksForCluster{r.Network, r.Balancers}, Volumes: volumesForCluster{r.Volume, r}, Servers: serversForCluster{r}, Drain: drain.Node, Avoid: drain.Avoid, Restart: restartNode, Copies: copiesForCluster{r}, Identity: identityForCluster{r.Identity}, Registry: registryForCluster{r}})
	r.Cluster.Controllers = append(r.Cluster.Controllers, services.New(services.Config{DB: db, Region: regionForServices{r}, Clusters: r.Cluster, Log: log}), ingress.New(log))
	if r.Policy, err = policy.New(r.cfg.path(policyFile), identity.Policies(), image.Policies(), placement.Policies(), network.Policies(), compute.Policies(), volume.Policies(), registry.Policies(), docker.Policies(), loadbalancer.Policies(), cluster.Policies()); err != nil {
		return err
	}
	r.Registry.Policy, r.Docker.Policy = r.Policy, r.Policy
	kit := &rest.Kit{Auth: r.Identity, Policy: r.Policy, Log: log, Metrics: rest.NewMetrics(), AuthURL: "/identity"}
	apis, err := kit.Handler(r.apis()...)
	r.handler = front(apis, r.Compute.Consoles().Handler(), kit.Metrics.Count("registry", r.Registry), kit.Metrics.Count("docker", r.Docker), kit.Metrics)
	return err
}

// hasProject tells compute whose quotas and flavor access there can be.
func (r *Region) hasProject(ctx context.Context, id string) bool {
	_, err := r.Identity.Project(ctx, id)
	return err == nil
}

// apis are the tables of all services.
func (r *Region) apis() []*rest.API {
	return append(r.Identity.APIs(), r.Image.API(), r.Placement.API(), r.Network.API(), r.Compute.API(), r.Compute.LegacyAPI(), r.Volume.API(), r.Balancers.API(), r.Balancers.OlderAPI(), r.Cluster.API())
}

// start brings the services to life: what was begun goes on, and this machine joins the pool.
func (r *Region) start(ctx context.Context, group *sync.WaitGroup) error {
	if err := r.bootstrap(ctx); err != nil {
		return fmt.Errorf("preparing the start: %w", err)
	}
	if err := r.Image.Start(ctx); err != nil {
		return fmt.Errorf("image service: %w", err)
	}
	if err := r.Registry.Start(ctx); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	r.Docker.Start(ctx)
	runs := []func(context.Context){r.Identity.Run, r.Network.Run, r.Compute.Run, r.Registry.Run, r.runMirrors, r.Docker.Run, r.Balancers.Run, r.Cluster.Run, r.runSagas, r.runSnapshots}
	if r.council != nil { // which has the agent and the operator's socket, whoever leads
		if err := r.enrol(ctx); err != nil {
			return fmt.Errorf("this machine as a member: %w", err)
		}
	} else {
		if err := r.startHost(ctx); err != nil {
			return fmt.Errorf("this machine as a node: %w", err)
		}
		runs = append(runs, r.runHost, r.runAdmin, r.runWorkers, r.runCopies)
	}
	r.Nodes.BeginLeases()
	for _, run := range runs {
		group.Go(func() { run(ctx) })
	}
	return nil
}

// startHost makes this machine a node of the pool.
func (r *Region) startHost(ctx context.Context) (err error) {
	if r.host, err = newHost(ctx, &r.cfg, control{r, r.cfg.Node}); err != nil {
		return err
	}
	if err := r.host.control.ReportNode(ctx, r.host.info); err != nil {
		return err
	}
	r.Nodes.Connect(r.cfg.Node, conn{r.host.agent, r.host.storage, r.host.containers})
	return nil
}

func (r *Region) runHost(ctx context.Context) {
	r.host.run(ctx)
	r.Nodes.Connect(r.cfg.Node, nil)
}

func (r *Region) runSagas(ctx context.Context) {
	if r.council != nil {
		r.gather(ctx)
	}
	if err := r.Sagas.Run(ctx); err != nil && ctx.Err() == nil {
		r.cfg.Log.Error("sagas stand still", "err", err)
	}
}

// URL is where clients reach the region.
func (r *Region) URL() string { return r.cfg.url() }

// Took is how long the start took.
func (r *Region) Took() time.Duration { return r.ready.Sub(r.begun) }

// inspector fits blockdev's inspector to the image service.
type inspector struct{ *blockdev.Inspector }

func newInspector() image.Inspector { return inspector{blockdev.NewInspector()} }

// Finish implements image.Inspector.
func (i inspector) Finish() (format string, virtualSize int64, unsafe error) {
	found := i.Result()
	return string(found.Format), found.VirtualSize, found.Safe()
}

// instancesDir is where the servers of this node are.
func (c *Config) instancesDir() string { return filepath.Join(c.DataDir, "instances") }

// Where volumes, the marks of who has them, their exports, their backups and what is mounted are.
const (
	volumesDir       = "volumes"
	attachedDir      = "attached"
	exportsDir       = "exports"
	volumeBackupsDir = "backups"
	mountsDir        = "mounts"    // of volumes that containers have
	podMountsDir     = "podmounts" // of volumes that clusters' pods have
)

// registryDir has the registry's content, and what is being uploaded to it.
const registryDir = "registry"

// leasesDir is where it says until when servers may run that run under a lease.
const leasesDir = "leases"
