package volume

import (
	"context"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/group"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Copy implements group.Volumes. The group is not there yet: whoever writes it
// vouches for it.
func (s *Service) Copy(ctx context.Context, c *policy.Credentials, w group.Copy) (func(tx *store.Tx) error, error) {
	o := &order{ID: uuid.NewString(), Group: w.Group, Snapshot: w.Snapshot, Source: w.Source, requestID: w.Request}
	v, err := s.prepare(ctx, c, o, s.findSource, s.findType, s.checkSize)
	if err != nil {
		return nil, err
	}
	return func(tx *store.Tx) error { return s.put(tx, c, o, v) }, nil
}

// checkGroup refuses a volume that its group does not take (cinder/volume/api.py, create).
func (s *Service) checkGroup(_ context.Context, c *policy.Credentials, o *order) error {
	if o.Group == "" {
		return nil
	}
	g, err := s.FindGroup(c, o.Group)
	switch {
	case err != nil:
		return err
	case o.Type == "":
		return wire.InvalidInput("volume_type must be provided when creating a volume in a group.")
	case !g.Takes(o.volType.ID):
		return wire.InvalidInput("Invalid volume_type provided: %s (requested type must be supported by this group).", o.volType.ID)
	case g.ProjectID != c.ProjectID:
		return wire.InvalidInput("Group %s belongs to another project.", g.ID)
	case o.source != nil && g.Backend != "" && g.Backend != block.BackendOf(o.source.Host()):
		return wire.InvalidInput("The volume's source is not in the back end of group %s.", g.ID)
	}
	return nil
}
