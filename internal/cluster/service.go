package cluster

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/reconcile"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// Size is what a worker takes of its node.
type Size struct {
	VCPUs     int `json:"vcpus"`
	MemoryMiB int `json:"memory_mib"`
}

// Resources are other services' things that a template or a cluster names.
type Resources interface {
	// Flavor gives the size of a flavor, by id or name, that the caller may use. NotFound.
	Flavor(ctx context.Context, c *policy.Credentials, ref string) (Size, error)
	// Image finds an image that the caller may see, by id or name. NotFound.
	Image(ctx context.Context, c *policy.Credentials, ref string) error
	// HasProject tells whether there is such a project.
	HasProject(ctx context.Context, id string) bool
}

// Placement is the placement service.
type Placement interface {
	Candidates(ctx context.Context, vcpus, memoryMiB int) (iter.Seq[string], error)
	Claim(ctx context.Context, consumer, node, projectID, userID string, vcpus, memoryMiB int) error
	Release(ctx context.Context, consumer string) error
}

// Pool is the machines.
type Pool interface {
	// Members are the nodes that can host control planes.
	Members() []string
	// Address is where others reach a node; not valid: they do not.
	Address(node string) netip.Addr
	// Takes tells whether a node may get more work.
	Takes(node string) bool
}

// Options configure the service.
type Options struct {
	DB        *store.DB
	Sagas     *saga.Engine
	Nodes     *nodes.Registry
	Resources Resources
	Placement Placement
	Pool      Pool
	Networks  Networks
	Volumes   Volumes
	Servers   Servers
	Drain     BeforeLeaving // its pods go elsewhere
	Avoid     BeforeLeaving // it gets none that have another choice
	Restart   Restart
	Identity  Identity
	Registry  Registry
	Copies    Copies
	// Controllers work for each cluster.
	Controllers []Controller
	Log         *slog.Logger
}

// Service is the service of clusters.
type Service struct {
	Options
	records
	ledger *store.Ledger
	renew  *reconcile.Loop
	calls  sync.Map // *rate.Limiter of workers that are servers, by id
	gates  *reconcile.Loop
}

// renewEvery is how often certificates of workers are looked at.
const renewEvery = time.Hour

// New registers the collections and sagas: call it before db.Start.
func New(o Options) *Service {
	s := &Service{Options: o, records: register(o.DB), ledger: o.DB.Ledger(service)}
	s.renew = reconcile.New("workers' certificates", o.Log, s.recertify)
	s.renew.Resync, s.renew.List = renewEvery, func() (ids []string) {
		for _, w := range s.workers.All() {
			ids = append(ids, w.ID)
		}
		return ids
	}
	s.gates = reconcile.New("gates of control planes", o.Log, s.regate)
	s.gates.Resync, s.gates.List = renewEvery, s.gateless
	s.registerSagas()
	s.Controllers = append(slices.Clone(o.Controllers), Controller{Name: "autoscaler", Run: s.autoscale}, Controller{Name: "lost-workers", Run: s.giveUp})
	return s
}

// Run works until ctx ends: certificates that are soon over are replaced, control planes
// without a gate get one, controllers work.
func (s *Service) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.renew.Run(ctx) })
	group.Go(func() { s.gates.Run(ctx) })
	s.runControllers(ctx)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func ptr[T any](v T) *T { return &v }
