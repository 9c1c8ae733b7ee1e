// Package servergroup is the groups that say where their members may run relative
// to each other (os-server-groups).
package servergroup

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// The policies of server groups.
const (
	Affinity         = "affinity"
	AntiAffinity     = "anti-affinity"
	SoftAffinity     = "soft-affinity"
	SoftAntiAffinity = "soft-anti-affinity"
)

// Group says where its members may run relative to each other. A server
// names its group when it is created and for ever.
type Group struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	ProjectID  string    `json:"project_id"`
	UserID     string    `json:"user_id"`
	Policy     string    `json:"policy"`
	MaxPerHost int       `json:"max_per_host,omitempty"` // of anti-affinity; 0: the rule is not set
	Created    time.Time `json:"created"`
}

// Groups is the groups' owner.
type Groups struct {
	records *store.Collection[Group]
	ledger  *store.Ledger
	members func(group string) []string
	limit   func(project string) int
}

// New registers the collection: call it before db.Start. members lists the servers
// of a group; limit is how many groups a project may have, -1 for any number.
func New(db *store.DB, ledger *store.Ledger, members func(group string) []string, limit func(project string) int) *Groups {
	return &Groups{ledger: ledger, members: members, limit: limit,
		records: store.Register(db, store.Schema[Group]{Service: "compute", Kind: "server_group", Version: 1,
			ID:    func(g *Group) string { return g.ID },
			Index: map[string]func(*Group) []string{"project": func(g *Group) []string { return []string{g.ProjectID} }}})}
}

// Get finds a group whosever it is.
func (s *Groups) Get(id string) (*Group, error) { return s.records.Get(id) }

// Of lists a project's groups.
func (s *Groups) Of(project string) []*Group { return s.records.By("project", project) }

// Routes are the groups' rows of the compute API.
func (s *Groups) Routes() []rest.Route {
	const at, rule = "/os-server-groups", "os_compute_api:os-server-groups:"
	body := func(lo, hi rest.Version, fields, required string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"server_group":{"type":"object","properties":{"name":`+wire.Name+`,`+fields+
			`},"required":["name","`+required+`"],"additionalProperties":false}},"required":["server_group"],"additionalProperties":false}`)
	}
	list := func(enum string) string {
		return `"policies":{"type":"array","items":{"enum":[` + enum + `]},"minItems":1,"maxItems":1}`
	}
	const hard, all = `"affinity","anti-affinity"`, `"affinity","anti-affinity","soft-affinity","soft-anti-affinity"`
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "index", Handle: s.list, Query: []rest.Schema{
			rest.SchemaIn(rest.V(2, 1), rest.V(2, 74), `{"type":"object","properties":{`+offsetQuery+`}}`),
			rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"all_projects":{},`+offsetQuery+`},"additionalProperties":false}`)}},
		{Method: "POST", Path: at, Policy: rule + "create", Handle: s.create, Body: []rest.Schema{
			body(rest.V(2, 1), rest.V(2, 14), list(hard), "policies"), body(rest.V(2, 15), rest.V(2, 63), list(all), "policies"),
			body(rest.V(2, 64), rest.Version{}, `"policy":{"enum":[`+all+`]},"rules":{"type":"object","properties":{"max_server_per_host":{"type":["integer","string"],"pattern":"^[0-9]*$","minimum":1,"minLength":1}},"additionalProperties":false}`, "policy")}},
		{Method: "GET", Path: at + "/{id}", Policy: rule + "show", Handle: s.show},
		{Method: "DELETE", Path: at + "/{id}", Policy: rule + "delete", Handle: s.remove},
	}
}

const offsetQuery = `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"offset":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}}`

// Find finds a server group of the caller's project, or any for an administrator.
func (s *Groups) Find(c *policy.Credentials, id string) (*Group, error) {
	g, err := s.records.Get(id)
	if err != nil || !(c.Admin() || g.ProjectID == c.ProjectID) {
		return nil, errs.NotFoundf("Instance group %s could not be found.", id)
	}
	return g, nil
}

func (s *Groups) view(r *rest.Request, g *Group) map[string]any {
	v := map[string]any{"id": g.ID, "name": g.Name, "members": s.members(g.ID)}
	if r.AtLeast(2, 13) {
		v["project_id"], v["user_id"] = g.ProjectID, g.UserID
	}
	if !r.AtLeast(2, 64) {
		v["policies"], v["metadata"] = []string{g.Policy}, map[string]string{}
		return v
	}
	rules := map[string]int{}
	if g.MaxPerHost > 0 {
		rules["max_server_per_host"] = g.MaxPerHost
	}
	v["policy"], v["rules"] = g.Policy, rules
	return v
}

func (s *Groups) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	list := s.records.By("project", r.Creds.ProjectID)
	if r.Query().Has("all_projects") && r.Allows("os_compute_api:os-server-groups:index:all_projects", r.Own()) {
		list = s.records.All()
	}
	slices.SortStableFunc(list, func(a, b *Group) int { return a.Created.Compare(b.Created) })
	list = cut(list, r.Query().Get("offset"), r.Query().Get("limit"))
	views := make([]any, len(list))
	for i, g := range list {
		views[i] = s.view(r, g)
	}
	return rest.JSON(200, map[string]any{"server_groups": views}), nil
}

// cut is paging by offset; the schema vouches for the numbers.
func cut[T any](list []T, offset, limit string) []T {
	if n, err := strconv.Atoi(offset); err == nil {
		list = list[min(n, len(list)):]
	}
	if n, err := strconv.Atoi(limit); err == nil && n > 0 {
		list = list[:min(n, len(list))]
	}
	return list
}

func (s *Groups) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Group struct {
			Name     string   `json:"name"`
			Policies []string `json:"policies"`
			Policy   string   `json:"policy"`
			Rules    *struct {
				Max any `json:"max_server_per_host"`
			} `json:"rules"`
		} `json:"server_group"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Group
	g := &Group{ID: uuid.NewString(), Name: strings.TrimSpace(in.Name), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID, Policy: in.Policy, Created: wire.Now()}
	if g.ProjectID == "" {
		return nil, errs.Invalidf("A server group needs a project-scoped token.")
	}
	if len(in.Policies) > 0 {
		g.Policy = in.Policies[0]
	}
	if in.Rules != nil && in.Rules.Max != nil {
		if g.Policy != AntiAffinity {
			return nil, errs.Invalidf("Only anti-affinity policy supports rules.")
		}
		if g.MaxPerHost = wire.Number(in.Rules.Max); g.MaxPerHost < 1 {
			return nil, errs.Invalidf("max_server_per_host must be at least 1")
		}
	}
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		if limit := s.limit(g.ProjectID); limit >= 0 && s.records.TxCount(tx, "project", g.ProjectID) >= limit {
			return errs.New(errs.QuotaExceeded, "Quota exceeded, too many server groups.")
		}
		return s.records.TxCreate(tx, g)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server_group": s.view(r, g)}), nil
}

func (s *Groups) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server_group": s.view(r, g)}), nil
}

func (s *Groups) ofPath(r *rest.Request) (*Group, error) {
	g, err := s.Find(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return g, r.Enforce(policy.Target{"project_id": g.ProjectID})
}

// remove leaves the members where they are.
func (s *Groups) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), s.records.Delete(ctx, g.ID)
}
