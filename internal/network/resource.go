package network

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// call is one request, or one internal change, on its way through the rules.
type call struct {
	*Service
	r   *rest.Request // nil: internal, everything is allowed
	tx  *store.Tx     // nil: only reads
	now time.Time

	members *members // the nodes; set for what is told to them
}

// project is the caller's, "" for a caller without one.
func (c *call) project() string {
	if c.r == nil {
		return ""
	}
	return c.r.Creds.ProjectID
}

func (c *call) admin() bool { return c.r == nil || c.r.Creds.Admin() }

func (c *call) enforce(rule string, t policy.Target) error {
	if c.r == nil || c.r.Allows(rule, t) {
		return nil
	}
	return errs.Coded(errs.Forbidden, "PolicyNotAuthorized", "rule:%s is disallowed by policy", rule)
}

func (c *call) allows(rule string, t policy.Target) bool { return c.r == nil || c.r.Allows(rule, t) }

// get reads a record through the call's transaction, if it has one.
func get[T any](c *call, coll *store.Collection[T], id string) (*T, error) {
	if c.tx != nil {
		return coll.TxGet(c.tx, id)
	}
	return coll.Get(id)
}

// by is get for an index.
func by[T any](c *call, coll *store.Collection[T], index, value string) []*T {
	if c.tx != nil {
		return coll.TxBy(c.tx, index, value)
	}
	return coll.By(index, value)
}

type table[T any] = attr.Table[T, *call]

type column[T any] = attr.Attr[T, *call]

// resource is one kind of API object: its attributes, and its rules as hooks
// that run inside the ledger. A hook may change the record it is given; it
// writes only other records.
type resource[T any] struct {
	*Service
	name, plural string // "network", "networks"
	path         string // of the collection, when it is not the plural
	quota        string // what it is called in quotas, "" when it is not counted
	bulk         bool
	table        *table[T]
	coll         *store.Collection[T]
	base         func(*T) *Base
	notFound     func(id string) error
	// target adds what this kind's policy rules refer to.
	target func(*call, *T, policy.Target)
	// hints are the filters that have an index.
	hints map[string]string
	// filters are those that do not compare an attribute.
	filters map[string]func(c *call, v *T, wanted []string) bool

	// parent finds what a new record belongs to, before policy looks at it.
	parent func(c *call, v *T) error
	create func(c *call, v *T, given attr.Values) error
	update func(c *call, old, v *T, given attr.Values) error
	remove func(c *call, v *T) error
}

func (rs *resource[T]) targetOf(c *call, v *T) policy.Target {
	p := rs.base(v).ProjectID
	t := policy.Target{"project_id": p, "tenant_id": p}
	if rs.target != nil {
		rs.target(c, v, t)
	}
	return t
}

// find gives a record that the caller may see. Others learn nothing of it.
func (rs *resource[T]) find(c *call, id string) (*T, error) {
	v, err := get(c, rs.coll, id)
	if errs.Is(err, errs.NotFound) || err == nil && !c.allows("get_"+rs.name, rs.targetOf(c, v)) {
		return nil, rs.notFound(id)
	}
	return v, err
}

// do runs fn in the ledger, as part of a call.
func (s *Service) do(ctx context.Context, r *rest.Request, fn func(c *call) error) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		return fn(&call{Service: s, r: r, tx: tx, now: s.Now().UTC().Truncate(time.Second)})
	})
}

func (s *Service) look(r *rest.Request) *call { return &call{Service: s, r: r} }

// add makes a record from given values: defaults, policy, quota, rules.
func (rs *resource[T]) add(c *call, project string, given attr.Values) (*T, error) {
	v := new(T)
	rs.table.Fill(v, given, attr.Post)
	*rs.base(v) = Base{ID: uuid.NewString(), ProjectID: project, Name: rs.base(v).Name, Description: rs.base(v).Description,
		Created: c.now, Updated: c.now, Revision: 1}
	if rs.parent != nil {
		if err := rs.parent(c, v); err != nil {
			return nil, err
		}
	}
	t := rs.targetOf(c, v)
	if err := c.enforce("create_"+rs.name, t); err != nil {
		return nil, err
	}
	if err := rs.guard(c, "create", given, t); err != nil {
		return nil, err
	}
	if err := c.fits(rs.quota, project, func() int { return rs.coll.TxCount(c.tx, "project", project) }, 1); err != nil {
		return nil, err
	}
	if err := rs.create(c, v, given); err != nil {
		return nil, err
	}
	return v, rs.coll.TxCreate(c.tx, v)
}

// guard enforces the rules of single attributes.
func (rs *resource[T]) guard(c *call, op string, given attr.Values, t policy.Target) error {
	for i := range rs.table.Attrs {
		a := &rs.table.Attrs[i]
		v, ok := given[a.Name]
		if !ok || !strings.Contains(a.Own, op) || op == "create" && (v == nil || reflect.DeepEqual(v, a.Default)) {
			continue
		}
		if err := c.enforce(op+"_"+rs.name+":"+a.Name, t); err != nil {
			return err
		}
	}
	return nil
}

// change updates a record.
func (rs *resource[T]) change(c *call, id string, raw map[string]any) (*T, error) {
	old, err := rs.find(c, id)
	if err != nil {
		return nil, err
	}
	t := rs.targetOf(c, old)
	if err := c.enforce("update_"+rs.name, t); err != nil {
		return nil, err
	}
	given, err := rs.table.Parse(raw, attr.Put)
	if err != nil {
		return nil, err
	}
	if err := c.matches(rs.base(old)); err != nil {
		return nil, err
	}
	now := *old
	v := &now
	rs.table.Fill(v, given, attr.Put)
	if err := rs.guard(c, "update", given, rs.targetOf(c, v)); err != nil {
		return nil, err
	}
	if rs.update != nil {
		if err := rs.update(c, old, v, given); err != nil {
			return nil, err
		}
	}
	return v, rs.put(c, old, v)
}

// put writes v when it differs from old, as a new revision.
func (rs *resource[T]) put(c *call, old, v *T) error {
	if reflect.DeepEqual(old, v) {
		return nil
	}
	b := rs.base(v)
	b.Revision++
	b.Updated = c.now
	return rs.coll.TxPut(c.tx, v)
}

// touch gives a record a new revision because a part of it that is kept elsewhere changed.
func (rs *resource[T]) touch(c *call, id string) error {
	_, err := rs.coll.TxUpdate(c.tx, id, func(v *T) error {
		b := rs.base(v)
		b.Revision++
		b.Updated = c.now
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// drop deletes a record the caller may delete.
func (rs *resource[T]) drop(c *call, id string) error {
	v, err := rs.find(c, id)
	if err != nil {
		return err
	}
	if err := c.enforce("delete_"+rs.name, rs.targetOf(c, v)); err != nil {
		return err
	}
	if err := c.matches(rs.base(v)); err != nil {
		return err
	}
	if rs.remove != nil {
		if err := rs.remove(c, v); err != nil {
			return err
		}
	}
	return rs.coll.TxDelete(c.tx, id)
}

// matches holds an If-Match: revision_number=N against the record
// (neutron/services/revisions/revision_plugin.py).
func (c *call) matches(b *Base) error {
	if c.r == nil {
		return nil
	}
	h := strings.Trim(c.r.HTTP.Header.Get("If-Match"), `" `)
	if h == "" {
		return nil
	}
	text, ok := strings.CutPrefix(h, "revision_number=")
	if !ok {
		return nil // the condition of another protocol, which upstream overlooks
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return invalid("If-Match must be revision_number=N, not '%s'", h)
	}
	if n != b.Revision {
		return errs.Coded(errs.Precondition, "RevisionNumberConstraintFailed",
			"Constrained to %d, but current revision is %d", n, b.Revision)
	}
	return nil
}

// view shows a record: what the caller may see of it, and of that the asked fields.
func (rs *resource[T]) view(c *call, v *T, fields []string) map[string]any {
	out := make(map[string]any, len(rs.table.Attrs))
	var t policy.Target
	for i := range rs.table.Attrs {
		a := &rs.table.Attrs[i]
		if a.Get == nil || len(fields) > 0 && !slices.Contains(fields, a.Name) {
			continue
		}
		if strings.Contains(a.Own, "get") {
			if t == nil {
				t = rs.targetOf(c, v)
			}
			if !c.allows("get_"+rs.name+":"+a.Name, t) {
				continue
			}
		}
		out[a.Name] = a.Get(v, c)
	}
	return out
}

// owner takes project_id and tenant_id out of a create body and says whose the
// new record is (neutron/api/v2/base.py, prepare_request_body).
func (c *call) owner(raw map[string]any) (string, error) {
	project := c.project()
	a, hasA := raw["project_id"]
	b, hasB := raw["tenant_id"]
	if hasA && hasB && a != b {
		return "", badRequest("'project_id' and 'tenant_id' do not match")
	}
	delete(raw, "project_id")
	delete(raw, "tenant_id")
	if hasB {
		a, hasA = b, true
	}
	if hasA && a != nil {
		v, err := attr.String(255)(a)
		if err != nil {
			return "", badRequest("Invalid input for project_id. Reason: %v.", err)
		}
		if v != project && !c.admin() {
			return "", badRequest("Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges")
		}
		project = v.(string)
	}
	return project, nil
}

func badRequest(format string, args ...any) error {
	return errs.Coded(errs.Invalid, "HTTPBadRequest", format, args...)
}

// invalid is upstream's InvalidInput.
func invalid(format string, args ...any) error {
	return errs.Coded(errs.Invalid, "InvalidInput", "Invalid input for operation: "+format+".", args...)
}

func conflict(code, format string, args ...any) error {
	return errs.Coded(errs.Conflict, code, format, args...)
}

func missing(code, format string) func(string) error {
	return func(id string) error { return errs.Coded(errs.NotFound, code, format, id) }
}
