package compute

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
	affinity         = "affinity"
	antiAffinity     = "anti-affinity"
	softAffinity     = "soft-affinity"
	softAntiAffinity = "soft-anti-affinity"
)

// ServerGroup says where its members may run relative to each other. A server
// names its group when it is created and for ever.
type ServerGroup struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	ProjectID  string    `json:"project_id"`
	UserID     string    `json:"user_id"`
	Policy     string    `json:"policy"`
	MaxPerHost int       `json:"max_per_host,omitempty"` // of anti-affinity; 0: the rule is not set
	Created    time.Time `json:"created"`
}

func (s *Service) groupRoutes() []rest.Route {
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
		{Method: "GET", Path: at, Policy: rule + "index", Handle: s.listGroups, Query: []rest.Schema{
			rest.SchemaIn(rest.V(2, 1), rest.V(2, 74), `{"type":"object","properties":{`+offsetQuery+`}}`),
			rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{"all_projects":{},`+offsetQuery+`},"additionalProperties":false}`)}},
		{Method: "POST", Path: at, Policy: rule + "create", Handle: s.createGroup, Body: []rest.Schema{
			body(rest.V(2, 1), rest.V(2, 14), list(hard), "policies"), body(rest.V(2, 15), rest.V(2, 63), list(all), "policies"),
			body(rest.V(2, 64), rest.Version{}, `"policy":{"enum":[`+all+`]},"rules":{"type":"object","properties":{"max_server_per_host":{"type":["integer","string"],"pattern":"^[0-9]*$","minimum":1,"minLength":1}},"additionalProperties":false}`, "policy")}},
		{Method: "GET", Path: at + "/{id}", Policy: rule + "show", Handle: s.showGroup},
		{Method: "DELETE", Path: at + "/{id}", Policy: rule + "delete", Handle: s.deleteGroup},
	}
}

const offsetQuery = `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"offset":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}}`

// group finds a server group of the caller's project, or any for an administrator.
func (s *Service) group(c *policy.Credentials, id string) (*ServerGroup, error) {
	g, err := s.groups.Get(id)
	if err != nil || !(c.Admin() || g.ProjectID == c.ProjectID) {
		return nil, errs.NotFoundf("Instance group %s could not be found.", id)
	}
	return g, nil
}

func (s *Service) groupView(r *rest.Request, g *ServerGroup) map[string]any {
	members := []string{}
	for _, v := range s.servers.By("group", g.ID) {
		members = append(members, v.ID)
	}
	v := map[string]any{"id": g.ID, "name": g.Name, "members": members}
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

func (s *Service) listGroups(_ context.Context, r *rest.Request) (*rest.Response, error) {
	list := s.groups.By("project", r.Creds.ProjectID)
	if r.Query().Has("all_projects") && r.Allows("os_compute_api:os-server-groups:index:all_projects", r.Own()) {
		list = s.groups.All()
	}
	slices.SortStableFunc(list, func(a, b *ServerGroup) int { return a.Created.Compare(b.Created) })
	list = cut(list, r.Query().Get("offset"), r.Query().Get("limit"))
	views := make([]any, len(list))
	for i, g := range list {
		views[i] = s.groupView(r, g)
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

func (s *Service) createGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
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
	g := &ServerGroup{ID: uuid.NewString(), Name: strings.TrimSpace(in.Name), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID, Policy: in.Policy, Created: wire.Now()}
	if g.ProjectID == "" {
		return nil, errs.Invalidf("A server group needs a project-scoped token.")
	}
	if len(in.Policies) > 0 {
		g.Policy = in.Policies[0]
	}
	if in.Rules != nil && in.Rules.Max != nil {
		if g.Policy != antiAffinity {
			return nil, errs.Invalidf("Only anti-affinity policy supports rules.")
		}
		if g.MaxPerHost = wire.Number(in.Rules.Max); g.MaxPerHost < 1 {
			return nil, errs.Invalidf("max_server_per_host must be at least 1")
		}
	}
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		if limit := s.limits(g.ProjectID)["server_groups"]; limit >= 0 && s.groups.TxCount(tx, "project", g.ProjectID) >= limit {
			return errs.New(errs.QuotaExceeded, "Quota exceeded, too many server groups.")
		}
		return s.groups.TxCreate(tx, g)
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server_group": s.groupView(r, g)}), nil
}

func (s *Service) showGroup(_ context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupOfPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server_group": s.groupView(r, g)}), nil
}

func (s *Service) groupOfPath(r *rest.Request) (*ServerGroup, error) {
	g, err := s.group(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return g, r.Enforce(policy.Target{"project_id": g.ProjectID})
}

// deleteGroup leaves the members where they are.
func (s *Service) deleteGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupOfPath(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), s.groups.Delete(ctx, g.ID)
}

// chooseHints reads the scheduler hints that mean something here; others are kept
// and do nothing, as with upstream's default filters.
func (s *Service) chooseHints(c *policy.Credentials, v *Server) error {
	id, ok := v.Hints["group"].(string)
	if !ok {
		return nil
	}
	g, err := s.group(c, id)
	if err != nil {
		return errs.Invalidf("%s", err.Error())
	}
	v.GroupID = g.ID
	return nil
}
