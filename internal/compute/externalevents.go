package compute

import (
	"context"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) eventRoutes() []rest.Route {
	schema := func(names string) string {
		return `{"type":"object","properties":{"events":{"type":"array","minItems":1,"items":{"type":"object","properties":{` +
			`"server_uuid":{"type":"string","format":"uuid"},"name":{"enum":[` + names + `]},"status":{"enum":["failed","completed","in-progress"]},` +
			`"tag":{"type":"string","maxLength":255}},"required":["server_uuid","name"],"additionalProperties":false}}},"required":["events"],"additionalProperties":false}`
	}
	names, all := `"network-changed","network-vif-plugged","network-vif-unplugged","network-vif-deleted"`, []rest.Schema{}
	for _, step := range []struct {
		min, max rest.Version
		adds     string
	}{{rest.V(2, 1), rest.V(2, 50), ""}, {rest.V(2, 51), rest.V(2, 75), `,"volume-extended"`}, {rest.V(2, 76), rest.V(2, 81), `,"power-update"`},
		{rest.V(2, 82), rest.V(2, 92), `,"accelerator-request-bound"`}, {rest.V(2, 93), rest.Version{}, `,"volume-reimaged"`}} {
		names += step.adds
		all = append(all, rest.SchemaIn(step.min, step.max, schema(names)))
	}
	return []rest.Route{{Method: "POST", Path: "/os-server-external-events", Policy: "os_compute_api:os-server-external-events:create", Body: all, Handle: s.externalEvents}}
}

// externalEvents takes what another service reports about servers. Ports and
// volumes of this region report by themselves, so that only a change of a server's
// network has anything left to do here: its guest is told the addresses.
func (s *Service) externalEvents(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Events []map[string]any `json:"events"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	status, accepted := 200, false
	for _, e := range b.Events {
		code := s.accepts(e)
		if e["code"] = code; code != 200 {
			e["status"], status = "failed", 207
			continue
		}
		e["status"], accepted = "completed", true
		if name, _ := e["name"].(string); strings.HasPrefix(name, "network-") {
			if err := s.refreshGuest(ctx, e["server_uuid"].(string)); err != nil {
				return nil, err
			}
		}
	}
	if !accepted {
		return nil, errs.NotFoundf("No instances found for any event")
	}
	return rest.JSON(status, map[string]any{"events": b.Events}), nil
}

// accepts gives an event's own code (nova/api/openstack/compute/server_external_events.py).
func (s *Service) accepts(e map[string]any) int {
	id, _ := e["server_uuid"].(string)
	v, err := s.servers.Get(id)
	switch {
	case err != nil || v.DeletedAt != nil:
		return 404
	case e["tag"] == nil && (e["name"] == "volume-extended" || e["name"] == "volume-reimaged"):
		return 400
	case v.Host == "":
		return 422
	}
	return 200
}
