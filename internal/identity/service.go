package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/identity/password"
	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// Options configure the service.
type Options struct {
	// PublicURL is scheme://host:port under which clients reach the region.
	PublicURL string
	// BcryptCost is the work factor of stored passwords; 0 means password.DefaultCost.
	BcryptCost int
	// TokenTTL is how long a token lives; 0 means one hour.
	TokenTTL time.Duration
	// KeyRotation is how long a key seals tokens; 0 means 24 hours.
	KeyRotation time.Duration
	// ExpiredWindow is how long after its end a service may still ask what a token
	// said (allow_expired); 0 means 48 hours, as upstream.
	ExpiredWindow time.Duration
	// LockoutAfter failures in a row close an account for LockoutFor (default 30
	// minutes). 0, the default, never does.
	LockoutAfter int
	LockoutFor   time.Duration
	Log          *slog.Logger
}

func (o *Options) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.TokenTTL, time.Hour)
	set(&o.KeyRotation, 24*time.Hour)
	set(&o.ExpiredWindow, 48*time.Hour)
	set(&o.LockoutFor, 30*time.Minute)
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// Service is the identity service.
type Service struct {
	opt    Options
	log    *slog.Logger
	dir    *directory.Directory
	hasher *password.Hasher
	cache  *subjectCache
	ring   atomic.Pointer[ringOf]
	now    func() time.Time
}

// ringOf is a ring and the record it was made of.
type ringOf struct {
	keys *directory.Keys
	ring *token.Ring
}

var _ rest.Authenticator = (*Service)(nil)

// New registers identity's collections; call it before db.Start. After that,
// Bootstrap makes the service usable.
func New(db *store.DB, opt Options) (*Service, error) {
	opt.defaults()
	hasher, err := password.New(opt.BcryptCost)
	if err != nil {
		return nil, err
	}
	return &Service{
		opt: opt, log: opt.Log, hasher: hasher, cache: newSubjectCache(), now: time.Now,
		// Revocations must outlive the tokens and the window in which they may be asked about.
		dir: directory.New(db, opt.TokenTTL+opt.ExpiredWindow),
	}, nil
}

// maintenance is how often Run looks at keys and revocations.
const maintenance = time.Minute

// Run follows the writes of other members, rotates keys and purges revocations
// until ctx ends. Two members that run it at once do no harm.
func (s *Service) Run(ctx context.Context) {
	go s.dir.Follow(ctx)
	tick := time.NewTicker(maintenance)
	defer tick.Stop()
	for {
		if s.dir.DB.Epoch() > 0 {
			if err := s.maintain(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("identity maintenance failed, trying again", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Service) maintain(ctx context.Context) error {
	if n, err := s.dir.PurgeRevocations(ctx, s.now()); err != nil {
		return fmt.Errorf("purging revocations: %w", err)
	} else if n > 0 {
		s.log.Debug("purged revocations", "count", n)
	}
	if err := s.rotateKeys(ctx, false); err != nil {
		return fmt.Errorf("rotating token keys: %w", err)
	}
	return nil
}

const keysID = "token"

// ensureKeys makes the first key set.
func (s *Service) ensureKeys(ctx context.Context) error {
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		if _, err := s.dir.Keys.TxGet(tx, keysID); !errs.Is(err, errs.NotFound) {
			return err
		}
		return s.dir.Keys.TxCreate(tx, &directory.Keys{ID: keysID, Set: token.NewKeySet(s.now())})
	})
}

// rotateKeys rotates when the primary key is old enough, or at once.
func (s *Service) rotateKeys(ctx context.Context, at bool) error {
	keep := s.opt.TokenTTL + s.opt.ExpiredWindow
	k, err := s.dir.Keys.Get(keysID)
	if errs.Is(err, errs.NotFound) {
		return nil // not bootstrapped yet
	} else if err != nil {
		return err
	}
	old := func(k *directory.Keys) bool { return s.now().Sub(k.Set.PrimarySince()) >= s.opt.KeyRotation }
	if !at && !old(k) {
		return nil
	}
	return s.dir.Write(ctx, func(tx *store.Tx) error {
		_, err := s.dir.Keys.TxUpdate(tx, keysID, func(k *directory.Keys) error {
			if at || old(k) {
				k.Set.Rotate(s.now(), keep)
			}
			return nil
		})
		return err
	})
}

// keyRing is the ring of the key set that is stored now.
func (s *Service) keyRing() (*token.Ring, error) {
	k, err := s.dir.Keys.Get(keysID)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "the identity service has not been bootstrapped: %w", err)
	}
	if r := s.ring.Load(); r != nil && r.keys == k {
		return r.ring, nil
	}
	ring, err := token.NewRing(k.Set)
	if err != nil {
		return nil, err
	}
	s.ring.Store(&ringOf{k, ring})
	return ring, nil
}

// Authenticate tells what a token says; see rest.Authenticator.
func (s *Service) Authenticate(_ context.Context, text string) (*policy.Credentials, error) {
	sub, err := s.subject(text, 0)
	if err != nil {
		return nil, err
	}
	return sub.creds, nil
}

// ServiceCredentials is the identity of calls that a service makes on its own
// behalf within the process.
func (s *Service) ServiceCredentials() *policy.Credentials {
	c := &policy.Credentials{UserName: "strata", UserDomainID: DefaultDomain, System: true,
		Roles: []string{"admin", "manager", "member", "reader", "service"}}
	if p, ok := s.dir.Projects.Unique("name", directory.Name(DefaultDomain, "service")); ok {
		c.ProjectID, c.ProjectName, c.ProjectDomainID = p.ID, p.Name, p.DomainID
	}
	return c
}

// Project gives a project, or an error of kind NotFound.
func (s *Service) Project(_ context.Context, id string) (*directory.Project, error) {
	return s.dir.Projects.Get(id)
}

// ActiveProject is Project for one that people can act in: the project and its domain are
// enabled. NotFound.
func (s *Service) ActiveProject(_ context.Context, id string) (*directory.Project, error) {
	p, err := s.dir.Projects.Get(id)
	if err != nil {
		return nil, err
	}
	if _, err := s.activeDomain(p.DomainID); err != nil || !p.Enabled || p.IsDomain {
		return nil, errs.NotFoundf("project %s is disabled", id)
	}
	return p, nil
}

// User gives a user, or an error of kind NotFound.
func (s *Service) User(_ context.Context, id string) (*directory.User, error) {
	return s.dir.Users.Get(id)
}

// ProjectNamed finds a project by its name in a domain.
func (s *Service) ProjectNamed(domainID, name string) (*directory.Project, bool) {
	return s.dir.Projects.Unique("name", directory.Name(domainID, name))
}
