package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) adminRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/servers/{id}/action", Action: "os-resetState", Policy: "os_compute_api:os-admin-actions:reset_state", Handle: s.resetState,
			Body: wire.Body("os-resetState", `{"type":"object","properties":{"state":{"enum":["active","error"]}},"required":["state"],"additionalProperties":false}`)},
		{Method: "POST", Path: "/servers/{id}/action", Action: "forceDelete", Policy: "os_compute_api:os-deferred-delete:force", Handle: s.forceDelete},
		{Method: "POST", Path: "/servers/{id}/action", Action: "restore", Policy: "os_compute_api:os-deferred-delete:restore", Handle: s.restore},
	}
}

// resetState writes the state that an administrator says, whatever is true; a
// delete that is under way stays one.
func (s *Service) resetState(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Reset struct {
			State string `json:"state"`
		} `json:"os-resetState"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	_, err = s.servers.Update(ctx, v.ID, func(v *Server) error {
		if v.DeletedAt != nil {
			return errs.NotFoundf("Instance %s could not be found.", v.ID)
		}
		v.VMState, v.SoftDelete, v.Updated = VMState(b.Reset.State), nil, wire.Now()
		v.doing("")
		return nil
	})
	return rest.Empty(202), err
}

// forceDelete is a delete for good, also of a server that was deleted softly.
func (s *Service) forceDelete(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if err := s.unlocked(r, v); err != nil {
		return nil, err
	}
	return rest.Empty(202), s.remove(ctx, r.ID, r.Creds, v.ID)
}
