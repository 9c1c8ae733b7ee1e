package compute

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/compute/console"
	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/keypair"
	"github.com/strata-cloud/strata/internal/compute/migration"
	"github.com/strata-cloud/strata/internal/compute/pool"
	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/compute/quota"
	"github.com/strata-cloud/strata/internal/compute/securitygroup"
	"github.com/strata-cloud/strata/internal/compute/servergroup"
	"github.com/strata-cloud/strata/internal/compute/usage"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// Images is what compute needs of the image service.
type Images interface {
	// Image gives an image that the caller may see; NotFound otherwise.
	Image(ctx context.Context, c *policy.Credentials, id string) (*Image, error)
	// Begin makes the record of an image that a server's disk will fill. An image
	// that is there stays as it is.
	Begin(ctx context.Context, n NewImage) error
	// Fill gives it its data, a qcow2 image. One that has its data stays as it is.
	Fill(ctx context.Context, id string, data io.Reader) error
	// Discard removes an image. Absent is fine.
	Discard(ctx context.Context, id string) error
	// Backups lists the project's active, unprotected backups of a kind that were
	// made of a server, newest first.
	Backups(project, server, kind string) []string
}

// NewImage is an image that is made of a server. MinDisk is in GiB, MinRAM in MiB.
type NewImage struct {
	ID, Name, ProjectID string
	Format              string // qcow2 (default) or raw
	MinDisk, MinRAM     int
	Properties          map[string]string
}

// Networks is what compute needs of the network service. Ports are named by ids
// that compute chose, so every call may be repeated.
type Networks interface {
	// Usable checks that the caller may plug into the network; "" with ok false
	// means that no network was named and the caller's own are to be listed.
	Usable(ctx context.Context, c *policy.Credentials, networkID string) error
	// Available lists the networks that a server without a request would get:
	// the project's own and shared ones that have a subnet.
	Available(ctx context.Context, c *policy.Credentials) ([]string, error)
	// Port gives a port that the caller may use.
	Port(ctx context.Context, c *policy.Credentials, id string) (*Port, error)
	// Groups resolves security groups, by id or name in the project, to ids and names.
	Groups(ctx context.Context, projectID string, wanted []string) (ids, names []string, err error)
	// EnsurePort makes the port if it is absent and binds it to the server and host.
	EnsurePort(ctx context.Context, p PortSpec) (*Port, error)
	// ReleasePort deletes a port or, when keep, only unbinds it. Absent is fine.
	ReleasePort(ctx context.Context, id string, keep bool) error
	// Ports lists the ports whose device is the server, in order of creation.
	Ports(server string) []Port
	// SetGroups adds or removes a security group on all the server's ports.
	SetGroups(ctx context.Context, c *policy.Credentials, server, group string, add bool) error
	// AddressHolder tells whether a port that the caller may see has the address, and
	// what device the port belongs to, if any.
	AddressHolder(c *policy.Credentials, networkID, address string) (device string, used bool)
	// Readdressed streams the ids of servers whose addresses have changed.
	Readdressed(ctx context.Context) <-chan string
	// Reaches tells whether ports of the network can be on the host.
	Reaches(networkID, host string) bool
	// FreePorts tells how many more ports the project may have; -1: any number.
	FreePorts(projectID string) int
}

// PortSpec is a port that a server wants.
type PortSpec struct {
	ID, NetworkID, ProjectID string
	FixedIP                  string
	Groups                   []string // security group ids
	Server, Host, Zone       string
	Hostname                 string
	Existing                 bool // made by the user: bind only
}

// Port is what compute sees of a port.
type Port struct {
	ID, NetworkID, NetworkName, ProjectID string
	MAC                                   string
	MTU                                   int
	DeviceID                              string
	Status                                string
	Bound                                 string // host
	FixedIPs                              []nodeapi.FixedIP
	Subnets                               []nodeapi.Subnet
	Floating                              map[netip.Addr]netip.Addr // fixed -> floating
	GroupIDs, GroupNames                  []string
	Created                               time.Time
}

// Placement is what compute needs of the placement service.
type Placement interface {
	// Candidates gives hosts that can hold the resources, best first, to read once as far
	// as they are needed. soon is what is about to be claimed, in MiB by host: it
	// changes the order alone.
	Candidates(ctx context.Context, r Resources, soon map[string]int) (iter.Seq[string], error)
	// Claim allocates for the consumer on the host; NoCapacity when it no longer
	// fits. Claiming again for the same consumer replaces the allocation.
	Claim(ctx context.Context, consumer, host, projectID, userID string, r Resources) error
	// ClaimAll gives several consumers exactly these allocations at one moment, or
	// changes nothing: NoCapacity when they do not fit.
	ClaimAll(ctx context.Context, projectID, userID string, list ...Holding) error
	// Release removes the consumer's allocation. Absent is fine.
	Release(ctx context.Context, consumer string) error
}

// Resources is what a server takes from a host.
type Resources struct {
	VCPU, MemoryMiB, DiskGiB int
	RequiredTraits           []string
	ForbiddenTraits          []string
}

// Holding is what a consumer shall have allocated; no host: nothing.
type Holding struct {
	Consumer, Host string
	Need           Resources
}

// Options configure the service.
type Options struct {
	DB        *store.DB
	Sagas     *saga.Engine
	Nodes     *nodes.Registry
	Images    Images
	Networks  Networks
	Placement Placement
	// ProviderID gives the UUID of a host's resource provider in placement: its
	// hypervisor goes by the same.
	ProviderID func(host string) string
	// SecurityGroups may be nil.
	SecurityGroups securitygroup.Groups
	// ImageProxy, AddressProxy and VolumeProxy may be nil: older routes to other services are absent then.
	ImageProxy   proxy.Images
	AddressProxy proxy.Addresses
	VolumeProxy  proxy.Volumes
	// HasProject tells whether identity has the project; nil trusts every id.
	HasProject func(ctx context.Context, id string) bool
	// Self is who asks for what nobody asked for; nil: the service without a name.
	Self func() *policy.Credentials
	// Volumes may be nil: servers have no volumes then.
	Volumes Volumes
	Log     *slog.Logger
	// BootTimeout bounds the wait for a node to start a server. Default 5 min.
	BootTimeout time.Duration
	// ReclaimAfter is how long a deleted server can be restored; 0: a delete is
	// final at once (nova's reclaim_instance_interval).
	ReclaimAfter time.Duration
}

// Service is the compute service.
type Service struct {
	Options
	collections
	placing  sync.Mutex // held while a host is chosen, and by moves until it is claimed: each choice sees those before it
	soon     rush
	ledger   *store.Ledger
	flavors  *flavor.Flavors
	keys     *keypair.Pairs
	pool     *pool.Pool
	groups   *servergroup.Groups
	quotas   *quota.Quotas
	usages   *usage.Reports
	moves    *migration.Migrations
	consoles *console.Consoles
}

// New registers the collections and sagas: call it before db.Start.
func New(o Options) *Service {
	if o.BootTimeout == 0 {
		o.BootTimeout = 5 * time.Minute
	}
	if o.Self == nil {
		o.Self = func() *policy.Credentials { return &policy.Credentials{} }
	}
	s := &Service{Options: o, collections: register(o.DB), ledger: o.DB.Ledger("compute")}
	s.flavors = flavor.New(o.DB, s.knownProject)
	s.quotas = quota.New(o.DB, s.used, s.knownProject)
	s.keys = keypair.New(o.DB, s.ledger, func(c *policy.Credentials) int { return s.quotas.UserLimits(c.ProjectID, c.UserID)["key_pairs"] })
	s.groups = servergroup.New(o.DB, s.ledger, s.members, func(project string) int { return s.quotas.Limits(project)["server_groups"] })
	s.usages = usage.New(o.DB, s.liveUsage)
	s.moves = migration.New(o.DB, func(r *rest.Request) error { _, err := s.authorized(r); return err })
	s.consoles = s.newConsoles()
	s.pool = pool.New(o.DB, o.Nodes, s.onHost, o.ProviderID)
	s.registerSagas()
	return s
}

// knownProject refuses ids that are no project's (nova/api/openstack/identity.py).
func (s *Service) knownProject(ctx context.Context, id string) error {
	if s.HasProject != nil && !s.HasProject(ctx, id) {
		return errs.Invalidf("Project ID %s is not a valid project.", id)
	}
	return nil
}

// Seed makes the default flavors: the first start calls it.
func (s *Service) Seed(ctx context.Context) error { return s.flavors.Seed(ctx) }

// onHost is what the pool shows of the servers on a host.
func (s *Service) onHost(host string) []pool.Server {
	var out []pool.Server
	for _, v := range s.servers.By("host", host) {
		r := v.resources()
		out = append(out, pool.Server{ID: v.ID, Name: v.Name, ProjectID: v.ProjectID, VCPUs: r.VCPU, MemoryMiB: r.MemoryMiB, DiskGiB: r.DiskGiB,
			Running: v.VMState == Active, Working: v.TaskState != ""})
	}
	return out
}

// find gives a server that is not deleted and that the caller may know of: its
// project's, or any for an administrator. Others do not learn that it exists.
func (s *Service) find(c *policy.Credentials, id string) (*Server, error) {
	v, err := s.servers.Get(id)
	if err != nil || v.DeletedAt != nil || !(c.Admin() || c.ProjectID == v.ProjectID) {
		return nil, errs.NotFoundf("Instance %s could not be found.", id)
	}
	return v, nil
}

func target(v *Server) policy.Target {
	return policy.Target{"project_id": v.ProjectID, "user_id": v.UserID}
}
