package cluster

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// root is the service's own root, prefix that of version 1.
const (
	root   = "/container-infra"
	prefix = root + "/v1"
)

// links are of a thing's place below the version.
func links(r *rest.Request, path string) []any {
	return []any{map[string]string{"rel": "self", "href": r.Base() + prefix + "/" + path}, map[string]string{"rel": "bookmark", "href": r.Base() + root + "/" + path}}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func stampOf(t *time.Time) any {
	if t == nil {
		return nil
	}
	return stamp(*t)
}

func textOf(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (t *Template) view(r *rest.Request) map[string]any {
	v := document(t.TemplateFields)
	v["uuid"], v["project_id"], v["user_id"], v["links"] = t.ID, t.ProjectID, t.UserID, links(r, "clustertemplates/"+t.ID)
	v["created_at"], v["updated_at"] = stamp(t.Created), stampOf(t.Updated)
	return v
}

func (t *Template) field(key string) (string, bool) {
	v := document(t.TemplateFields)
	v["uuid"], v["id"], v["created_at"], v["updated_at"], v["project_id"], v["user_id"] = t.ID, stamp(t.Created), stamp(t.Created), stampOf(t.Updated), t.ProjectID, t.UserID
	return sortKey(v, key)
}

// sortKey is a field as text to sort by; id, upstream's number, is the time of creation.
func sortKey(v map[string]any, key string) (string, bool) {
	x, ok := v[key]
	switch x.(type) {
	case nil:
		return "", ok
	case map[string]any, []any:
		return "", false
	}
	return fmt.Sprint(x), ok
}

// listing answers with a page of a list (magnum/api/controllers/v1/collection.py).
func listing[T any](r *rest.Request, kind, path string, all []*T, id func(*T) string, field func(*T, string) (string, bool), view func(*T) any) (*rest.Response, error) {
	q := r.Query()
	if q.Get("limit") == "0" {
		return nil, errs.Invalidf("Limit must be positive")
	}
	if dir := q.Get("sort_dir"); dir != "" && dir != "asc" && dir != "desc" {
		return nil, errs.Invalidf("Invalid sort direction: %s. Acceptable values are 'asc' or 'desc'", dir)
	}
	p, err := rest.PageOf(q, maxLimit)
	if err != nil {
		return nil, err
	}
	if len(p.Sorts) == 0 {
		p.Sorts = []rest.Sort{{Key: "id", Desc: q.Get("sort_dir") == "desc"}}
	}
	page, more, err := rest.Paginate(append([]*T{}, all...), p, id, field)
	if err != nil {
		return nil, err
	}
	views := make([]any, len(page))
	for i, v := range page {
		views[i] = view(v)
	}
	out := map[string]any{kind: views}
	if more {
		out["next"] = rest.NextLink(r.Base(), prefix+path, q, id(page[len(page)-1]))
	}
	return rest.JSON(200, out), nil
}

// maxLimit is how much a page has at most (magnum/conf/api.py, max_limit).
const maxLimit = 1000

// brief are the fields of a cluster in a list.
var brief = []string{"uuid", "name", "cluster_template_id", "keypair", "docker_volume_size", "labels", "node_count", "status", "master_flavor_id", "flavor_id", "create_timeout", "master_count", "health_status", "stack_id", "links"}

// view is a cluster; of a list that is not detailed: its brief fields.
func (s *Service) view(r *rest.Request, c *Cluster, detail bool) map[string]any {
	v := document(c.ClusterFields)
	v["uuid"], v["cluster_template_id"], v["stack_id"], v["links"] = c.ID, c.TemplateID, nil, links(r, "clusters/"+c.ID)
	nodes, masters, addresses := s.counts(c)
	v["node_count"], v["master_count"], v["status"] = nodes, masters, c.Status
	h := s.health(c)
	v["health_status"] = textOf(h.status)
	if !detail {
		return rest.Fields(v, brief)
	}
	v["status_reason"], v["health_status_reason"], v["project_id"], v["user_id"] = textOf(c.Reason), h.reasons, c.ProjectID, c.UserID
	v["api_address"], v["master_addresses"], v["node_addresses"] = nil, []string{}, addresses
	if c.Address != "" {
		v["api_address"], v["master_addresses"] = "https://"+c.Address, []string{host(c.Address)}
	}
	v["coe_version"], v["container_version"] = textOf(h.version), nil
	v["created_at"], v["updated_at"] = stamp(c.Created), stampOf(c.Updated)
	var parent Labels
	if t, err := s.templates.Get(c.TemplateID); err == nil {
		parent = t.Labels
	}
	differ(v, parent, c.Labels)
	if c.Status == CreateFailed || c.Status == UpdateFailed {
		v["faults"] = s.faults(c)
	}
	return v
}

// counts are the nodes of a cluster's groups, and where its workers are.
func (s *Service) counts(c *Cluster) (nodes, masters int, addresses []string) {
	addresses = []string{}
	for _, g := range s.groups.By("cluster", c.ID) {
		if g.Role == masterRole {
			masters += g.NodeCount
			continue
		}
		nodes += g.NodeCount
		addresses = append(addresses, s.addresses(g.ID)...)
	}
	return nodes, masters, addresses
}

func (s *Service) addresses(group string) []string {
	out := []string{}
	for _, w := range s.workers.By("group", group) {
		if !w.Leaving && w.Address != "" {
			out = append(out, w.Address)
		}
	}
	return out
}

func (s *Service) faults(c *Cluster) map[string]string {
	out := map[string]string{}
	for _, g := range s.groups.By("cluster", c.ID) {
		if g.Status == CreateFailed || g.Status == UpdateFailed {
			out[g.Name] = g.Reason
		}
	}
	return out
}

// differ tells how labels differ from those that they come from
// (magnum/api/utils.py, get_labels_diff).
func differ(v map[string]any, parent, own Labels) {
	overridden, added, skipped := Labels{}, Labels{}, Labels{}
	for k, x := range parent {
		if y, ok := own[k]; !ok {
			skipped[k] = x
		} else if text(x) != text(y) {
			overridden[k] = x
		}
	}
	for k, y := range own {
		if _, ok := parent[k]; !ok {
			added[k] = y
		}
	}
	v["labels_overridden"], v["labels_added"], v["labels_skipped"] = overridden, added, skipped
}

func (s *Service) groupView(r *rest.Request, g *Group, detail bool) map[string]any {
	v := document(g.GroupFields)
	v["uuid"], v["is_default"], v["status"], v["stack_id"] = g.ID, g.Default, g.Status, nil
	if !detail {
		return rest.Fields(v, []string{"uuid", "name", "flavor_id", "node_count", "role", "is_default", "image_id", "status", "stack_id"})
	}
	v["cluster_id"], v["project_id"], v["status_reason"], v["version"] = g.ClusterID, g.ProjectID, textOf(g.Reason), nil
	v["node_addresses"] = s.addresses(g.ID)
	c, err := s.clusters.Get(g.ClusterID)
	if err == nil && g.Role == masterRole && c.Address != "" {
		v["node_addresses"] = []string{host(c.Address)}
	}
	var parent Labels
	if err == nil {
		parent = c.Labels
	}
	differ(v, parent, g.Labels)
	v["links"] = links(r, "clusters/"+g.ClusterID+"/nodegroups/"+g.ID)
	v["created_at"], v["updated_at"] = stamp(g.Created), stampOf(g.Updated)
	return v
}

// clone copies labels.
func (l Labels) clone() Labels {
	out := Labels{}
	for k, v := range l {
		out[k] = v
	}
	return out
}

// MarshalJSON writes no labels as an empty object.
func (l Labels) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]any(l))
}
