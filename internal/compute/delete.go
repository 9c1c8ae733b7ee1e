package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// deleteServer always works: it cancels what is under way and then insists. Asking
// again while it runs changes nothing.
func (s *Service) deleteServer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(r, v); err != nil {
		return nil, err
	}
	if err := s.softRemove(ctx, r, v.ID); err != nil {
		return nil, err
	}
	return rest.Empty(204), nil
}

// remove begins the deletion of a server; again for one that is going is no error.
func (s *Service) remove(ctx context.Context, requestID string, c *policy.Credentials, id string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if err != nil || v.DeletedAt != nil || v.TaskState == Deleting {
			return err
		}
		if err := s.Sagas.CancelAll(tx, v.ID); err != nil {
			return err
		}
		if _, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			v.TaskState, v.Updated = Deleting, wire.Now()
			return nil
		}); err != nil {
			return err
		}
		return s.begin(tx, requestID, c, sagaDelete, "delete", v, nil)
	})
}
