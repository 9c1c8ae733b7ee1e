package directory

import (
	"context"
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/store"
)

// Directory is the collections. Read them freely; write within Write.
type Directory struct {
	DB          *store.DB
	Projects    *store.Collection[Project]
	Users       *store.Collection[User]
	Groups      *store.Collection[Group]
	Members     *store.Collection[Member]
	Roles       *store.Collection[Role]
	Implied     *store.Collection[Implied]
	Assignments *store.Collection[Assignment]
	Regions     *store.Collection[Region]
	Services    *store.Collection[Service]
	Endpoints   *store.Collection[Endpoint]
	AppCreds    *store.Collection[AppCred]
	AccessRules *store.Collection[AccessRule]
	Credentials *store.Collection[Credential]
	Trusts      *store.Collection[Trust]
	RegLimits   *store.Collection[RegisteredLimit]
	Limits      *store.Collection[Limit]
	Revocations *store.Collection[Revocation]
	Keys        *store.Collection[Keys]

	EndpointGroups *store.Collection[EndpointGroup]
	EndpointLinks  *store.Collection[EndpointLink]
	PolicyBlobs    *store.Collection[PolicyBlob]

	generation atomic.Uint64
	tokenTTL   time.Duration
}

// NewID makes an id as Keystone does: a random UUID without dashes.
func NewID() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// Generation changes whenever a record of identity has changed. What was derived
// from records may be kept for as long as the generation read before deriving
// it is still the current one.
func (d *Directory) Generation() uint64 { return d.generation.Load() }

// Write runs a transaction and raises the generation before it returns.
func (d *Directory) Write(ctx context.Context, fn func(tx *store.Tx) error) error {
	defer d.generation.Add(1) // also after an error: the outcome may be unknown
	return d.DB.Txn(ctx, fn)
}

// Follow raises the generation when other members of the cluster write, until
// ctx ends.
func (d *Directory) Follow(ctx context.Context) {
	changed := d.DB.Notify(ctx, service)
	for {
		select {
		case <-changed:
			d.generation.Add(1)
		case <-ctx.Done():
			return
		}
	}
}
