package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) passwordRoutes() []rest.Route {
	const at, rule = "/servers/{id}/os-server-password", "os_compute_api:os-server-password:"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "show", Handle: s.showPassword},
		{Method: "DELETE", Path: at, Policy: rule + "clear", Handle: s.clearPassword},
		{Method: "POST", Path: "/servers/{id}/action", Action: "changePassword", Policy: "os_compute_api:os-admin-password", Handle: s.changePassword,
			Body: wire.Body("changePassword", `{"type":"object","properties":{"adminPass":{"type":"string"}},"required":["adminPass"],"additionalProperties":false}`)},
	}
}

// showPassword gives what the guest posted: encrypted with the server's key, so
// that only its owner can read it.
func (s *Service) showPassword(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]string{"password": v.Password}), nil
}

func (s *Service) clearPassword(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), s.setPassword(ctx, v.ID, func(*Server) (string, error) { return "", nil })
}

// TakePassword keeps what a guest posted to the metadata service. Conflict: it has posted before.
func (s *Service) TakePassword(ctx context.Context, id, password string) error {
	return s.setPassword(ctx, id, func(v *Server) (string, error) {
		if v.Password != "" {
			return "", errs.Conflictf("Instance %s has a password already", id)
		}
		return password, nil
	})
}

// setPassword writes the record and what the guest is told of it.
func (s *Service) setPassword(ctx context.Context, id string, choose func(*Server) (string, error)) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, id)
		if err != nil {
			return err
		}
		password, err := choose(v)
		if err != nil || v.DeletedAt != nil || v.Password == password {
			return err
		}
		if _, err := s.servers.TxUpdate(tx, id, func(v *Server) error {
			v.Password, v.Updated = password, wire.Now()
			return nil
		}); err != nil {
			return err
		}
		if inst, err := s.Nodes.Instances.TxGet(tx, id); errs.Is(err, errs.NotFound) || err == nil && inst.Deleted {
			return nil // its node is not to be told, or will be when it is spawned
		} else if err != nil {
			return err
		}
		_, err = s.orderTx(tx, id, func(_ *Server, i *nodeapi.Instance) error { i.Guest.Password = password; return nil })
		return err
	})
}
