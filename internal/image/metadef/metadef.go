// Package metadef is the catalogue of metadata definitions of the image API: which
// properties there are, for what kind of resource, and what their values mean.
// Dashboards offer them; nothing else in the region depends on them.
//
// It owns the Namespace records. A namespace holds all that is in it (resource
// type associations, objects, properties, tags), so that every change is one
// record and deleting a namespace deletes the rest.
package metadef

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// Namespace is the record of one namespace.
type Namespace struct {
	Name        string        `json:"name"`
	DisplayName string        `json:"display_name,omitempty"`
	Description string        `json:"description,omitempty"`
	Visibility  string        `json:"visibility"` // public or private
	Owner       string        `json:"owner"`
	Protected   bool          `json:"protected"`
	Types       []Association `json:"types,omitempty"`
	Objects     []Item        `json:"objects,omitempty"`
	Properties  []Item        `json:"properties,omitempty"`
	Tags        []Item        `json:"tags,omitempty"`
	Created     time.Time     `json:"created"`
	Updated     time.Time     `json:"updated"`
}

// Association says that the namespace applies to a resource type.
type Association struct {
	Name    string    `json:"name"` // such as OS::Glance::Image
	Prefix  string    `json:"prefix,omitempty"`
	Target  string    `json:"target,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Item is an object, a property or a tag: its name, and what else it says as JSON.
type Item struct {
	Name    string          `json:"name"`
	Body    json.RawMessage `json:"body,omitempty"`
	Created time.Time       `json:"created"`
	Updated time.Time       `json:"updated"`
}

// maxItems bounds each list of a namespace.
const maxItems = 500

// Catalogue serves the definitions.
type Catalogue struct {
	db         *store.DB
	namespaces *store.Collection[Namespace]
}

// New registers the collection: call it before db.Start.
func New(db *store.DB) *Catalogue {
	return &Catalogue{db, store.Register(db, store.Schema[Namespace]{Service: "image", Kind: "namespace", Version: 1,
		ID: func(n *Namespace) string { return n.Name }})}
}

// Policies are upstream's names and defaults (glance/policies/metadef.py).
func Policies() []policy.Rule {
	const (
		admin  = "rule:metadef_admin"
		reader = "rule:context_is_admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))"
	)
	rules := []policy.Rule{{Name: "metadef_admin", Check: "rule:context_is_admin"}}
	for check, names := range map[string][]string{
		reader: {"get_metadef_namespace", "get_metadef_namespaces", "get_metadef_object", "get_metadef_objects", "list_metadef_resource_types",
			"get_metadef_resource_type", "get_metadef_property", "get_metadef_properties", "get_metadef_tag", "get_metadef_tags"},
		admin: {"add_metadef_namespace", "modify_metadef_namespace", "delete_metadef_namespace", "add_metadef_object", "modify_metadef_object",
			"delete_metadef_object", "add_metadef_resource_type_association", "remove_metadef_resource_type_association", "add_metadef_property",
			"modify_metadef_property", "remove_metadef_property", "add_metadef_tag", "add_metadef_tags", "modify_metadef_tag", "delete_metadef_tag", "delete_metadef_tags"},
	} {
		for _, n := range names {
			rules = append(rules, policy.Rule{Name: n, Check: check})
		}
	}
	return rules
}

func (n *Namespace) visibleTo(c *policy.Credentials) bool {
	return c.Admin() || n.Visibility == "public" || n.Owner == c.ProjectID && c.ProjectID != ""
}

// find gives the namespace of the path if the caller may see it and the route's
// rule allows what it wants.
func (c *Catalogue) find(r *rest.Request) (*Namespace, error) {
	n, err := c.namespaces.Get(r.Path("namespace"))
	if err != nil || !n.visibleTo(r.Creds) {
		return nil, errs.NotFoundf("Metadata definition namespace=%s was not found.", r.Path("namespace"))
	}
	return n, r.Enforce(policy.Target{"project_id": n.Owner, "visibility": n.Visibility})
}

func index(list []Item, name string) int {
	return slices.IndexFunc(list, func(i Item) bool { return i.Name == name })
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

const wireTime = "2006-01-02T15:04:05Z"

func stamps(v map[string]any, created, updated time.Time) map[string]any {
	v["created_at"], v["updated_at"] = created.Format(wireTime), updated.Format(wireTime)
	return v
}
