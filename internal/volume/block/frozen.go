package block

import (
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Frozen is the record of a back end that an administrator keeps as it is.
type Frozen struct {
	Backend string    `json:"backend"` // NODE@BACKEND
	Since   time.Time `json:"since"`
}

func registerFrozen(db *store.DB) *store.Collection[Frozen] {
	return store.Register(db, store.Schema[Frozen]{Service: "volume", Kind: "frozen", Version: 1, ID: func(f *Frozen) string { return f.Backend }})
}

// BackendOf is the back end of a pool's name in the API, which is NODE@BACKEND#POOL.
func BackendOf(host string) string {
	backend, _, _ := strings.Cut(host, "#")
	return backend
}

// IsFrozen tells whether the back end is frozen.
func (c *Core) IsFrozen(backend string) bool {
	_, err := c.Frozen.Get(backend)
	return err == nil
}

// Thawed refuses what would change a frozen back end (cinder/objects/base.py, assert_not_frozen).
func (c *Core) Thawed(tx *store.Tx, backend string) error {
	if _, err := c.Frozen.TxGet(tx, backend); err == nil {
		return wire.InvalidInput("Modification operations are not allowed on frozen storage backends.")
	}
	return nil
}
