package pool

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// computeBinary is the only kind of service here: the agent of a host. What other
// services upstream lists are parts of the one control process.
const computeBinary = "nova-compute"

func (p *Pool) serviceRoutes() []rest.Route {
	const at, rule = "/os-services", "os_compute_api:os-services:"
	const text = `{"type":"string","minLength":1,"maxLength":255}`
	bools := `{"enum":[true,"True","TRUE","true","1","ON","On","on","YES","Yes","yes",false,"False","FALSE","false","0","OFF","Off","off","NO","No","no"]}`
	old := func(lo, hi rest.Version, more string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"host":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"},"binary":`+text+`,"disabled_reason":`+text+more+`},"required":["host","binary"],"additionalProperties":false}`)
	}
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "list", Handle: p.listServices, Query: []rest.Schema{
			rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"host":{},"binary":{}},"additionalProperties":false}`)}},
		{Method: "PUT", Path: at + "/{id}", Policy: rule + "update", Min: rest.V(2, 1), Max: rest.V(2, 52), Handle: p.updateByHost,
			Body: []rest.Schema{old(rest.V(2, 1), rest.V(2, 10), ""), old(rest.V(2, 11), rest.V(2, 52), `,"forced_down":`+bools)}},
		{Method: "PUT", Path: at + "/{id}", Policy: rule + "update", Min: rest.V(2, 53), Handle: p.updateByID, Body: []rest.Schema{rest.SchemaOf(
			`{"type":"object","properties":{"status":{"enum":["enabled","disabled"]},"disabled_reason":` + text + `,"forced_down":` + bools + `},"additionalProperties":false}`)}},
		{Method: "DELETE", Path: at + "/{id}", Policy: rule + "delete", Handle: p.deleteService},
	}
}

func (p *Pool) serviceView(r *rest.Request, n *nodeapi.NodeInfo) map[string]any {
	st := p.state(n.ID)
	v := map[string]any{"binary": computeBinary, "host": n.ID, "id": rowID(n.ID), "zone": p.Zone(n.ID), "status": "enabled", "state": "down",
		"updated_at": n.SeenAt.Format(stamp), "disabled_reason": nil}
	if r.AtLeast(2, 53) {
		v["id"] = serviceID(n.ID)
	}
	if r.AtLeast(2, 11) {
		v["forced_down"] = st.ForcedDown
	}
	if st.Disabled {
		v["status"] = "disabled"
		if st.Reason != "" {
			v["disabled_reason"] = st.Reason
		}
	}
	if p.Up(n.ID) {
		v["state"] = "up"
	}
	return v
}

func (p *Pool) listServices(_ context.Context, r *rest.Request) (*rest.Response, error) {
	list, q := []any{}, r.Query()
	for _, n := range p.nodes.Infos.All() {
		if h := q.Get("host"); h != "" && h != n.ID {
			continue
		}
		if b := q.Get("binary"); b != "" && b != computeBinary {
			continue
		}
		list = append(list, p.serviceView(r, n))
	}
	return rest.JSON(200, map[string]any{"services": list}), nil
}

// updateByHost is PUT /os-services/{action} up to 2.52.
func (p *Pool) updateByHost(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Host   string  `json:"host"`
		Binary string  `json:"binary"`
		Reason *string `json:"disabled_reason"`
		Down   any     `json:"forced_down"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	view := map[string]any{"host": b.Host, "binary": b.Binary}
	var fn func(*ServiceState)
	action := r.Path("id")
	switch {
	case action == "enable":
		view["status"] = "enabled"
		fn = func(s *ServiceState) { s.Disabled, s.Reason = false, "" }
	case action == "disable":
		view["status"] = "disabled"
		fn = func(s *ServiceState) { s.Disabled, s.Reason = true, "" }
	case action == "disable-log-reason":
		if b.Reason == nil {
			return nil, errs.Invalidf("Missing disabled reason field")
		}
		view["status"], view["disabled_reason"] = "disabled", *b.Reason
		fn = func(s *ServiceState) { s.Disabled, s.Reason = true, *b.Reason }
	case action == "force-down" && r.AtLeast(2, 11):
		if b.Down == nil {
			return nil, errs.Invalidf("Missing forced_down field")
		}
		down := isTrue(b.Down)
		view["forced_down"] = down
		fn = func(s *ServiceState) { s.ForcedDown = down }
	default:
		return nil, errs.NotFoundf("Unknown action")
	}
	if b.Binary != computeBinary {
		return nil, errs.Invalidf("Updating a %s service is not supported. Only nova-compute services can be updated.", b.Binary)
	}
	if _, err := p.nodes.Infos.Get(b.Host); err != nil {
		return nil, errs.NotFoundf("Could not find binary %s on host %s.", b.Binary, b.Host)
	}
	return rest.JSON(200, map[string]any{"service": view}), p.setState(ctx, b.Host, fn)
}

// isTrue reads the spellings that the schema allows.
func isTrue(v any) bool {
	if s, ok := v.(string); ok {
		return slices.Contains([]string{"true", "1", "on", "yes"}, strings.ToLower(s))
	}
	return v == true
}

// updateByID is PUT /os-services/{uuid} from 2.53 on.
func (p *Pool) updateByID(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := p.hostOf(r, rest.V(2, 53), serviceID, "Service %s could not be found.")
	if err != nil {
		return nil, err
	}
	var b struct {
		Status string `json:"status"`
		Reason string `json:"disabled_reason"`
		Down   any    `json:"forced_down"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	switch {
	case b.Status == "enabled" && b.Reason != "":
		return nil, errs.Invalidf("Specifying 'disabled_reason' with status 'enabled' is invalid.")
	case b.Status == "" && b.Down == nil:
		return nil, errs.Invalidf("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
	}
	err = p.setState(ctx, n.ID, func(s *ServiceState) {
		if b.Status != "" {
			s.Disabled, s.Reason = b.Status == "disabled", b.Reason
		}
		if b.Down != nil {
			s.ForcedDown = isTrue(b.Down)
		}
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"service": p.serviceView(r, n)}), nil
}

// deleteService forgets a host that is gone for good, with its place in aggregates.
// An agent that still runs will register again.
func (p *Pool) deleteService(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if !r.AtLeast(2, 53) {
		if _, err := strconv.Atoi(r.Path("id")); err != nil {
			return nil, errs.Invalidf("id must be an integer")
		}
	} else if _, err := uuid.Parse(r.Path("id")); err != nil {
		return nil, errs.Invalidf("Invalid uuid %s", r.Path("id"))
	}
	n, err := p.hostOf(r, rest.V(2, 53), serviceID, "Service %s not found.")
	if err != nil {
		return nil, err
	}
	if len(p.servers(n.ID)) > 0 {
		return nil, errs.Conflictf("Unable to delete compute service that is hosting instances. Migrate or delete the instances first.")
	}
	return rest.Empty(204), p.db.Txn(ctx, func(tx *store.Tx) error {
		for _, a := range p.aggregates.TxBy(tx, "host", n.ID) {
			if _, err := p.aggregates.TxUpdate(tx, strconv.Itoa(a.ID), func(a *Aggregate) error {
				a.Hosts = slices.DeleteFunc(a.Hosts, func(h string) bool { return h == n.ID })
				return nil
			}); err != nil {
				return err
			}
		}
		for _, err := range []error{p.services.TxDelete(tx, n.ID), p.nodes.Infos.TxDelete(tx, n.ID)} {
			if err != nil && !errs.Is(err, errs.NotFound) {
				return err
			}
		}
		return nil
	})
}
