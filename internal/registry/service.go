package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// SignIn is how a client of the registry says who it is.
type SignIn struct {
	// AppCredential is the id of one; else a user in a project, each in Domain.
	AppCredential         string
	Domain, Project, User string
	Secret                string
}

// Identity is what the registry needs of the identity service.
type Identity interface {
	// SignIn gives a token of identity's, and whom it is for.
	SignIn(ctx context.Context, in SignIn) (token string, c *policy.Credentials, err error)
	// Authenticate tells what a token of identity's says now.
	Authenticate(ctx context.Context, token string) (*policy.Credentials, error)
	// Seal makes a text of a secret that only Open of the same purpose reads, on any
	// member of the control plane.
	Seal(purpose string, secret []byte) (string, error)
	Open(purpose, text string) ([]byte, error)
	// HasProject tells whether there is such a project.
	HasProject(ctx context.Context, id string) bool
	// ProjectName is the name of a project in which people can act. NotFound.
	ProjectName(ctx context.Context, id string) (string, error)
}

// Options configure the service.
type Options struct {
	DB       *store.DB
	Log      *slog.Logger
	Dir      string // of the content; it is made if it is absent. One file system
	Identity Identity
	// Policy judges Policies; it may be set until Start.
	Policy *policy.Engine
	// MaxBlob bounds one blob in bytes. Default 64 GiB.
	MaxBlob int64
	// MaxLinks bounds the tags, manifests and layers of a project together: each is a
	// record of the store. Default 20,000.
	MaxLinks int
	// Keep is how long content is kept that nothing names and nobody asks for, and an
	// upload that does not go on. Default 6 hours.
	Keep time.Duration
	// Workers gives the project whose images a worker may pull now. Without it none may.
	Workers func(w Worker) (project string, err error)
	// Mirrors are the addresses of registries that are mirrored, by their names. They are
	// recorded at Start; "" takes a mirror back.
	Mirrors map[string]string
	// MirrorKeep is how long mirrored images are kept that nobody asks for. Default 7 days.
	MirrorKeep time.Duration
	// MirrorLimit bounds the bytes that are kept of mirrored images. Default 50 GiB.
	MirrorLimit int64
	// TokenTTL is how long a token lives. Default 10 minutes.
	TokenTTL time.Duration
}

// Service is the registry.
type Service struct {
	Options
	blobs  *store.Collection[Blob]
	links  *store.Collection[Link]
	ledger *store.Ledger
	mirror *mirrors
	app    atomic.Pointer[handlers.App] // from Start on
	now    func() time.Time

	// Whoever records a blob or a link holds sweeping for reading, so that nothing is
	// removed between the look that nobody wants it and the removal.
	sweeping sync.RWMutex
	mu       sync.Mutex
	begun    time.Time
	used     map[string]time.Time // when blobs and links were last asked for
}

// New registers the collections: call it before db.Start.
func New(o Options) *Service {
	if o.MaxBlob == 0 {
		o.MaxBlob = 64 << 30
	}
	if o.MaxLinks == 0 {
		o.MaxLinks = 20000
	}
	if o.Keep == 0 {
		o.Keep = 6 * time.Hour
	}
	if o.TokenTTL == 0 {
		o.TokenTTL = 10 * time.Minute
	}
	if o.MirrorKeep == 0 {
		o.MirrorKeep = 7 * 24 * time.Hour
	}
	if o.MirrorLimit == 0 {
		o.MirrorLimit = 50 << 30
	}
	return &Service{Options: o, mirror: newMirrors(o), blobs: registerBlobs(o.DB), links: registerLinks(o.DB), ledger: o.DB.Ledger("registry"), now: time.Now, used: map[string]time.Time{}}
}

// making guards distribution's list of drivers, which is one for the process.
var making sync.Mutex

// Start makes the directories, clears what a crash left and makes the handler, which
// ctx ends: call it after db.Start and before serving.
func (s *Service) Start(ctx context.Context) error {
	s.begun = s.now()
	uploads := filepath.Join(s.Dir, uploadsDir)
	err := errors.Join(os.RemoveAll(uploads), os.MkdirAll(uploads, 0o750), os.MkdirAll(s.BlobsDir(), 0o750))
	if err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return err
	}
	if err := s.mirror.start(ctx); err != nil {
		return err
	}
	making.Lock()
	defer making.Unlock()
	if !known(ctx) {
		factory.Register(driverName, given{})
	}
	s.app.Store(handlers.NewApp(s.quiet(ctx), s.configuration()))
	return nil
}

func (s *Service) configuration() *configuration.Configuration {
	c := &configuration.Configuration{Storage: configuration.Storage{
		driverName:    {"driver": driver{s}},
		"delete":      {"enabled": true},
		"redirect":    {"disable": true},
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}}, // the sweep does that
	}}
	c.Validation.Manifests.URLs.Allow = []string{"^https?://"} // of layers that may not be distributed
	c.HTTP.RelativeURLs = true
	c.HTTP.Secret = rand.Text() // of the state of uploads, which do not outlive the process
	return c
}

// forward has distribution answer.
func (s *Service) forward(w http.ResponseWriter, r *http.Request, upload bool) {
	out := &outcome{}
	a := &answerWriter{ResponseWriter: w, r: r, out: out, log: s.Log, manifest: r.Method == http.MethodPut && !upload}
	if q := r.URL.Query(); upload {
		a.asked = cmp.Or(q.Get("digest"), q.Get("mount"))
	}
	ctx := context.WithValue(s.quiet(r.Context()), outcomeKey{}, out)
	s.app.Load().ServeHTTP(a, r.WithContext(context.WithValue(ctx, asksKey{}, r.Method != http.MethodGet)))
}
