package volume

import (
	"context"
	"io"
	"log/slog"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/volume/backup"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/group"
	"github.com/strata-cloud/strata/internal/volume/message"
	"github.com/strata-cloud/strata/internal/volume/pool"
	"github.com/strata-cloud/strata/internal/volume/snapshot"
	"github.com/strata-cloud/strata/internal/volume/transfer"
)

// Images is what the volume service needs of the image service.
type Images interface {
	// Image gives an image that the caller may see; NotFound otherwise.
	Image(ctx context.Context, c *policy.Credentials, id string) (*Image, error)
	// Named gives the id of the image of that name that the caller may see.
	Named(ctx context.Context, c *policy.Credentials, name string) (string, error)
	// EnsureImage makes the record of an image that is to be uploaded.
	EnsureImage(ctx context.Context, n NewImage) error
	// Upload gives the image its data. An image that has it already is left alone.
	Upload(ctx context.Context, id string, data io.Reader) error
	// Discard removes an image whose upload failed. Absent is fine.
	Discard(ctx context.Context, id string) error
}

// Servers is what the volume service tells the servers that use its volumes.
type Servers interface {
	// VolumeExtended notes, in the caller's transaction, that a server has seen a
	// volume of its grow.
	VolumeExtended(tx *store.Tx, server, request, project, user string) error
}

// Image is what the service sees of an image.
type Image struct {
	ID, Name, Status, Format, Container, Checksum string
	Size, Virtual                                 int64 // bytes of the file and of the disk
	MinDisk, MinRAM                               int   // GiB, MiB
	Properties                                    map[string]string
}

// NewImage is an image made of a volume.
type NewImage struct {
	ID, Name, Format, Container, Visibility, ProjectID string
	Protected                                          bool
	MinDisk                                            int // GiB
	Properties                                         map[string]string
}

// Options configure the service.
type Options struct {
	DB     *store.DB
	Sagas  *saga.Engine
	Nodes  *nodes.Registry
	Images Images
	// Servers may be nil: there are none.
	Servers Servers
	Log     *slog.Logger
}

// Service is the volume service.
type Service struct {
	*block.Core
	images    Images
	servers   Servers
	pools     *pool.Pools
	attach    *attach.Service
	snapshots *snapshot.Service
	backups   *backup.Service
	transfers *transfer.Service
	groups    *group.Service
	messages  *message.Service
}

// New registers the collections and sagas: call it before db.Start.
func New(o Options) *Service {
	core := block.New(o.DB, o.Sagas, o.Nodes, o.Log)
	s := &Service{Core: core, images: o.Images, servers: o.Servers, pools: pool.New(core), attach: attach.New(core), snapshots: snapshot.New(core)}
	s.backups, s.transfers, s.messages = backup.New(core, s), transfer.New(core), message.New(core)
	s.groups = group.New(core, s.pools, s)
	s.registerSagas()
	return s
}

// Seed makes the default volume type: every start calls it.
func (s *Service) Seed(ctx context.Context) error { return s.Types.Seed(ctx) }
