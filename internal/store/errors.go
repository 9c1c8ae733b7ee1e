package store

import (
	"errors"
	"fmt"

	"github.com/strata-cloud/strata/internal/errs"
)

// ErrCompacted ends a watch whose start lies before the last compaction.
var ErrCompacted = errors.New("store: the revision has been compacted")

// UniqueError says which record already holds a declared unique key. It comes
// wrapped in an error of kind Conflict; find it with errors.As.
type UniqueError struct {
	Service, Kind string
	Name, Value   string
	Holder        string // id of the record that has it
}

// Error names the key and its holder.
func (e *UniqueError) Error() string {
	return fmt.Sprintf("%s %s with %s %q already exists (%s)", e.Service, e.Kind, e.Name, e.Value, e.Holder)
}

func uniqueViolation(e *UniqueError) error { return errs.New(errs.Conflict, "%w", e) }

func unavailable(doing string, err error) error {
	return errs.New(errs.Unavailable, "store: "+doing+": %w", err)
}
