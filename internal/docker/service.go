package docker

import (
	"context"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/reconcile"
	"github.com/strata-cloud/strata/internal/store"
)

// Identity is what the gateway needs of the identity service.
type Identity interface {
	// SignIn gives a token of identity's for an application credential.
	SignIn(ctx context.Context, id, secret string) (token string, err error)
	// Authenticate tells what a token says now.
	Authenticate(ctx context.Context, token string) (*policy.Credentials, error)
	// HasProject tells whether there is such a project.
	HasProject(ctx context.Context, id string) bool
	// LimitOf is the operator's limit of a resource for a project, if there is one.
	LimitOf(projectID, resource string) (int, bool)
}

// Image is an image of the region's registry.
type Image struct {
	Repo, Tag, Digest, MediaType string
	Size                         int64
	Since                        time.Time
}

// ImageInfo is what is in an image.
type ImageInfo struct {
	Config  any // as Docker's API shows it
	Created *time.Time
	Size    int64 // of its layers, as they are kept
}

// Images is the registry.
type Images interface {
	// Resolve finds what a client calls an image. NotFound: there is none for the project.
	Resolve(ctx context.Context, c *policy.Credentials, hosts []string, ref string) (*Image, error)
	// Tagged lists the project's by tag.
	Tagged(ctx context.Context, c *policy.Credentials) ([]*Image, error)
	// Info reads an image's configuration.
	Info(i *Image) (*ImageInfo, error)
}

// Network is one that the caller's project can be on.
type Network struct {
	ID, Name, ProjectID string
	Domain              string
	MTU                 int
	External            bool
	Created             time.Time
	Subnets             []nodeapi.Subnet
}

// PortSpec is a port that a container wants.
type PortSpec struct {
	ID, NetworkID, ProjectID  string
	FixedIP                   string
	Groups                    []string // ids
	Device, Node, Owner, Name string
	Aliases                   []string
}

// PortView is a port as the network service has it.
type PortView struct {
	ID, NetworkID, MAC string
	Domain             string // of the network's names
	MTU                int
	FixedIPs           []nodeapi.FixedIP
	Subnets            []nodeapi.Subnet
	Floating           map[netip.Addr]netip.Addr
}

// Networks is the network service.
type Networks interface {
	Visible(ctx context.Context, c *policy.Credentials) []Network
	// Usable tells whether the caller may plug something into the network.
	Usable(ctx context.Context, c *policy.Credentials, networkID string) error
	// Groups resolves security groups of the project to ids.
	Groups(ctx context.Context, projectID string, wanted []string) ([]string, error)
	EnsurePort(ctx context.Context, p PortSpec) (*PortView, error)
	ReleasePort(ctx context.Context, id string) error
	// Ports lists the ports of a device.
	Ports(device string) []PortView
	// Make makes a network of the caller's with all that it needs, Drop removes it; also
	// happens in the same transaction.
	Make(ctx context.Context, c *policy.Credentials, n NewNetwork, also func(tx *store.Tx, id, router string) error) error
	Drop(ctx context.Context, id, router string, also func(tx *store.Tx) error) error
	// Reaches tells whether ports of the network can be on the node.
	Reaches(networkID, node string) bool
}

// Placement is the placement service.
type Placement interface {
	Candidates(ctx context.Context, vcpus, memoryMiB int) (iter.Seq[string], error)
	Claim(ctx context.Context, consumer, node, projectID, userID string, vcpus, memoryMiB int) error
	Release(ctx context.Context, consumer string) error
}

// Options configure the service.
type Options struct {
	DB        *store.DB
	Log       *slog.Logger
	Nodes     *nodes.Registry
	Identity  Identity
	Images    Images
	Networks  Networks
	Volumes   Volumes
	Placement Placement
	// Takes tells whether a node may get more work.
	Takes func(node string) bool
	// Policy judges Policies; it may be set until Start.
	Policy  *policy.Engine
	Version string // the product's
	// Registry are the addresses, HOST:PORT, by which clients may call the region's registry.
	Registry []string
}

// Service is the gateway.
type Service struct {
	Options
	containers *store.Collection[Container]
	made       *store.Collection[Made]
	ledger     *store.Ledger
	loop       *reconcile.Loop
	table      dockerwire.Table[route]
	tokens     tokens

	making sync.Mutex // of volumes by name
	mu     sync.Mutex
	active map[string]bool // ids of creates under way
	life   context.Context // ends with Close, and all streams with it
	end    context.CancelFunc
}

// New registers the collection: call it before db.Start.
func New(o Options) *Service {
	s := &Service{Options: o, containers: register(o.DB), made: registerMade(o.DB), ledger: o.DB.Ledger("docker"), active: map[string]bool{}}
	s.loop = reconcile.New("projects' containers", o.Log, s.reconcile)
	s.loop.List, s.loop.Resync = s.unfinished, resync
	for _, r := range s.routes() {
		s.table.Add(r.method, r.path, r)
	}
	return s
}

// resync is how often unfinished removals are looked at anyway.
const resync = 10 * time.Second

// Start lets streams last until ctx ends or Close: call it before serving.
func (s *Service) Start(ctx context.Context) { s.life, s.end = context.WithCancel(ctx) }

// Close ends all streams, so that nobody waits for them.
func (s *Service) Close() { s.end() }

// Run works until ctx ends: what was removed goes from its node, and what its engine
// removed loses its record.
func (s *Service) Run(ctx context.Context) { s.loop.Run(ctx) }
