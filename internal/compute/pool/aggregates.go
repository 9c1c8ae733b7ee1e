package pool

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (p *Pool) aggregateRoutes() []rest.Route {
	const zone = `{"anyOf":[{"type":"null"},{"type":"string","minLength":1,"maxLength":255,"pattern":"^[^:]*[^:\\s][^:]*$"}]}`
	const name = `{"type":"string","minLength":1,"maxLength":255,"pattern":"\\S"}`
	body := func(key, inner string) []rest.Schema {
		return []rest.Schema{rest.SchemaOf(`{"type":"object","properties":{"` + key + `":` + inner + `},"required":["` + key + `"],"additionalProperties":false}`)}
	}
	fields := `{"type":"object","properties":{"name":` + name + `,"availability_zone":` + zone + `},"additionalProperties":false,`
	host := `{"type":"object","properties":{"host":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9-._]*$"}},"required":["host"],"additionalProperties":false}`
	meta := `{"type":"object","properties":{"metadata":{"type":"object","additionalProperties":false,"patternProperties":{"^[a-zA-Z0-9-_:. ]{1,255}$":{"type":["string","null"],"maxLength":255}}}},"required":["metadata"],"additionalProperties":false}`
	const at, rule = "/os-aggregates", "os_compute_api:os-aggregates:"
	act := func(key string, schema string, h rest.Handler) rest.Route {
		return rest.Route{Method: "POST", Path: at + "/{id}/action", Action: key, Policy: rule + key, Body: body(key, schema), Handle: h}
	}
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "index", Handle: p.listAggregates},
		{Method: "POST", Path: at, Policy: rule + "create", Body: body("aggregate", fields+`"required":["name"]}`), Handle: p.createAggregate},
		{Method: "GET", Path: at + "/{id}", Policy: rule + "show", Handle: p.showAggregate},
		{Method: "PUT", Path: at + "/{id}", Policy: rule + "update", Body: body("aggregate", fields+`"anyOf":[{"required":["name"]},{"required":["availability_zone"]}]}`), Handle: p.updateAggregate},
		{Method: "DELETE", Path: at + "/{id}", Policy: rule + "delete", Handle: p.deleteAggregate},
		act("add_host", host, p.addHost),
		act("remove_host", host, p.removeHost),
		act("set_metadata", meta, p.setMetadata),
	}
}

const stamp = "2006-01-02T15:04:05.000000"

func aggregateView(r *rest.Request, a *Aggregate) map[string]any {
	hosts, meta := a.Hosts, a.Metadata
	if hosts == nil {
		hosts = []string{}
	}
	if meta == nil {
		meta = map[string]string{}
	}
	v := map[string]any{"id": a.ID, "name": a.Name, "hosts": hosts, "metadata": meta, "availability_zone": nil,
		"created_at": a.Created.Format(stamp), "updated_at": nil, "deleted": false, "deleted_at": nil}
	if z := a.Metadata[zoneKey]; z != "" {
		v[zoneKey] = z
	}
	if a.Updated != nil {
		v["updated_at"] = a.Updated.Format(stamp)
	}
	if r.AtLeast(2, 41) {
		v["uuid"] = a.UUID
	}
	return v
}

func answer(r *rest.Request, a *Aggregate) *rest.Response {
	return rest.JSON(200, map[string]any{"aggregate": aggregateView(r, a)})
}

func (p *Pool) listAggregates(_ context.Context, r *rest.Request) (*rest.Response, error) {
	list := p.aggregates.All()
	slices.SortFunc(list, func(a, b *Aggregate) int { return a.ID - b.ID })
	views := make([]any, len(list))
	for i, a := range list {
		views[i] = aggregateView(r, a)
	}
	return rest.JSON(200, map[string]any{"aggregates": views}), nil
}

func (p *Pool) showAggregate(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id, err := aggregateID(r)
	if err != nil {
		return nil, err
	}
	a, err := p.aggregates.Get(id)
	if err != nil {
		return nil, noAggregate(id)
	}
	return answer(r, a), nil
}

func aggregateID(r *rest.Request) (string, error) {
	n, err := strconv.ParseInt(r.Path("id"), 10, 32)
	if err != nil {
		return "", errs.Invalidf("id must be an integer, not %q", r.Path("id"))
	}
	return strconv.FormatInt(n, 10), nil
}

func noAggregate(id string) error { return errs.NotFoundf("Aggregate %s could not be found.", id) }

// aggregateBody is the body of a create or an update; a zone that is null is not named.
type aggregateBody struct {
	Aggregate struct {
		Name string  `json:"name"`
		Zone *string `json:"availability_zone"`
	} `json:"aggregate"`
}

func (p *Pool) createAggregate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b aggregateBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	a := &Aggregate{UUID: uuid.NewString(), Name: strings.TrimSpace(b.Aggregate.Name), Created: now()}
	if z := b.Aggregate.Zone; z != nil {
		a.Metadata = map[string]string{zoneKey: strings.TrimSpace(*z)}
	}
	err := p.db.Txn(ctx, func(tx *store.Tx) error {
		seq := Sequence{ID: "aggregate"}
		if have, err := p.sequences.TxGet(tx, seq.ID); err == nil {
			seq = *have
		} else if !errs.Is(err, errs.NotFound) {
			return err
		}
		seq.Last++
		if a.ID = seq.Last; p.nameTaken(tx, a) {
			return errs.Conflictf("Aggregate %s already exists.", a.Name)
		}
		if err := p.sequences.TxPut(tx, &seq); err != nil {
			return err
		}
		return p.aggregates.TxCreate(tx, a)
	})
	if err != nil {
		return nil, err
	}
	v := aggregateView(r, a)
	delete(v, "hosts")
	delete(v, "metadata")
	return rest.JSON(200, map[string]any{"aggregate": v}), nil
}

func (p *Pool) nameTaken(tx *store.Tx, a *Aggregate) bool {
	have, taken := p.aggregates.TxUnique(tx, "name", a.Name)
	return taken && have.ID != a.ID
}

// change updates the aggregate of the path.
func (p *Pool) change(ctx context.Context, r *rest.Request, fn func(tx *store.Tx, a *Aggregate) error) (*rest.Response, error) {
	id, err := aggregateID(r)
	if err != nil {
		return nil, err
	}
	var out *Aggregate
	err = p.db.Txn(ctx, func(tx *store.Tx) (err error) {
		if _, err := p.aggregates.TxGet(tx, id); err != nil {
			return noAggregate(id)
		}
		out, err = p.aggregates.TxUpdate(tx, id, func(a *Aggregate) error {
			t := now()
			a.Updated = &t
			return fn(tx, a)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer(r, out), nil
}

func (p *Pool) updateAggregate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b aggregateBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	return p.change(ctx, r, func(tx *store.Tx, a *Aggregate) error {
		if b.Aggregate.Name != "" {
			if a.Name = strings.TrimSpace(b.Aggregate.Name); p.nameTaken(tx, a) {
				return errs.Conflictf("Aggregate %s already exists.", a.Name)
			}
		}
		if z := b.Aggregate.Zone; z != nil {
			return p.setZone(tx, a, strings.TrimSpace(*z))
		}
		return nil
	})
}

// setZone makes the aggregate a zone, if no host would be in two and none that is in use would move.
func (p *Pool) setZone(tx *store.Tx, a *Aggregate, zone string) error {
	if err := p.oneZone(tx, a, zone, a.Hosts); err != nil {
		return errs.Invalidf("%s", err.Error())
	}
	if a.Metadata[zoneKey] != zone {
		for _, h := range a.Hosts {
			if len(p.servers(h)) > 0 {
				return errs.Invalidf("Cannot update aggregate %d. Reason: One or more hosts contain instances in this zone.", a.ID)
			}
		}
	}
	if a.Metadata == nil {
		a.Metadata = map[string]string{}
	}
	a.Metadata[zoneKey] = zone
	return nil
}

// oneZone refuses a zone that another aggregate of one of the hosts contradicts.
func (p *Pool) oneZone(tx *store.Tx, a *Aggregate, zone string, hosts []string) error {
	for _, h := range hosts {
		for _, other := range p.aggregates.TxBy(tx, "host", h) {
			if z := other.Metadata[zoneKey]; other.ID != a.ID && z != "" && z != zone {
				return errs.Conflictf("Cannot change aggregate %d. Reason: One or more hosts already in availability zone(s) ['%s'].", a.ID, z)
			}
		}
	}
	return nil
}

// deleteAggregate answers 200: upstream keeps it for compatibility.
func (p *Pool) deleteAggregate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, err := aggregateID(r)
	if err != nil {
		return nil, err
	}
	err = p.db.Txn(ctx, func(tx *store.Tx) error {
		a, err := p.aggregates.TxGet(tx, id)
		if err != nil {
			return noAggregate(id)
		}
		if len(a.Hosts) > 0 {
			return errs.Invalidf("Cannot delete aggregate %s. Reason: Host aggregate is not empty.", id)
		}
		return p.aggregates.TxDelete(tx, id)
	})
	return rest.Empty(200), err
}

func hostIn(r *rest.Request, key string) (string, error) {
	var b map[string]struct {
		Host string `json:"host"`
	}
	err := r.Decode(&b)
	return b[key].Host, err
}

func (p *Pool) addHost(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	host, err := hostIn(r, "add_host")
	if err != nil {
		return nil, err
	}
	if _, err := p.nodes.Infos.Get(host); err != nil {
		return nil, errs.NotFoundf("Compute host %s could not be found.", host)
	}
	return p.change(ctx, r, func(tx *store.Tx, a *Aggregate) error {
		if slices.Contains(a.Hosts, host) {
			return errs.Conflictf("Aggregate %d already has host %s.", a.ID, host)
		}
		if z := a.Metadata[zoneKey]; z != "" {
			if err := p.oneZone(tx, a, z, []string{host}); err != nil {
				return err
			}
			if err := p.mayMove(host, p.Zone(host), z); err != nil {
				return err
			}
		}
		a.Hosts = append(a.Hosts, host)
		return nil
	})
}

// mayMove refuses to change the zone of servers.
func (p *Pool) mayMove(host, from, to string) error {
	if n := len(p.servers(host)); n > 0 && from != to {
		return errs.Conflictf("The availability zone of host %s would change from '%s' to '%s', but it already has %d instance(s). Move them away first.", host, from, to, n)
	}
	return nil
}

func (p *Pool) removeHost(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	host, err := hostIn(r, "remove_host")
	if err != nil {
		return nil, err
	}
	return p.change(ctx, r, func(tx *store.Tx, a *Aggregate) error {
		i := slices.Index(a.Hosts, host)
		if i < 0 {
			return errs.NotFoundf("Cannot remove host %s in aggregate %d", host, a.ID)
		}
		if z := a.Metadata[zoneKey]; z != "" {
			left := DefaultZone
			for _, other := range p.aggregates.TxBy(tx, "host", host) {
				if oz := other.Metadata[zoneKey]; other.ID != a.ID && oz != "" {
					left = oz
				}
			}
			if err := p.mayMove(host, z, left); err != nil {
				return err
			}
		}
		a.Hosts = slices.Delete(a.Hosts, i, i+1)
		return nil
	})
}

// setMetadata merges; a null removes its key.
func (p *Pool) setMetadata(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Set struct {
			Metadata map[string]*string `json:"metadata"`
		} `json:"set_metadata"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	return p.change(ctx, r, func(tx *store.Tx, a *Aggregate) error {
		if a.Metadata == nil {
			a.Metadata = map[string]string{}
		}
		for k, v := range b.Set.Metadata {
			switch {
			case k == zoneKey && (v == nil || *v == ""):
				return errs.Invalidf("Cannot update metadata of aggregate %d. Reason: Aggregate %s does not support empty named availability zone.", a.ID, a.Name)
			case k == zoneKey:
				if err := p.setZone(tx, a, *v); err != nil {
					return err
				}
			case v == nil:
				delete(a.Metadata, k)
			default:
				a.Metadata[k] = *v
			}
		}
		return nil
	})
}
