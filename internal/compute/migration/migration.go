// Package migration is the record of servers' moves and resizes (os-migrations).
//
// A record is written with the request that begins a move and follows it. Cold:
// pre-migrating, migrating, post-migrating, finished, then confirmed or reverted; or
// error. Live: queued, preparing, running, post-migrating, completed; or failed,
// cancelled, error. An evacuation: accepted, pre-migrating, done; or error.
package migration

import (
	"context"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// The types of migrations.
const (
	Resize     = "resize"
	Cold       = "migration"
	Live       = "live-migration"
	Evacuation = "evacuation"
)

// The states of a migration.
const (
	Accepted      = "accepted"
	Queued        = "queued"
	Preparing     = "preparing"
	Running       = "running"
	PreMigrating  = "pre-migrating"
	PostMigrating = "post-migrating"
	Completed     = "completed"
	Cancelled     = "cancelled"
	Broken        = "failed" // under way
	Done          = "done"

	Migrating  = "migrating"
	Finished   = "finished"
	Confirming = "confirming"
	Confirmed  = "confirmed"
	Reverting  = "reverting"
	Reverted   = "reverted"
	Failed     = "error"
)

// Migration is one move or resize of a server.
type Migration struct {
	ID        string    `json:"id"`
	Server    string    `json:"server"`
	ProjectID string    `json:"project_id"`
	UserID    string    `json:"user_id"` // who asked for it
	Kind      string    `json:"kind"`    // one of the types
	Status    string    `json:"status"`
	Source    string    `json:"source"` // hosts
	Target    string    `json:"target"`
	OldFlavor string    `json:"old_flavor"`
	NewFlavor string    `json:"new_flavor"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Progress  *Progress `json:"progress,omitempty"` // of a live one
	// Automatic is an evacuation that nobody asked for: the host was found dead.
	Automatic bool `json:"automatic,omitempty"`
}

// Progress is how far a live migration has come, in bytes.
type Progress struct {
	MemoryTotal     int64 `json:"memory_total"`
	MemoryProcessed int64 `json:"memory_processed"`
	MemoryRemaining int64 `json:"memory_remaining"`
	DiskTotal       int64 `json:"disk_total"`
	DiskProcessed   int64 `json:"disk_processed"`
	DiskRemaining   int64 `json:"disk_remaining"`
}

// Migrations is the records' owner.
type Migrations struct {
	records *store.Collection[Migration]
	server  func(r *rest.Request) error
}

// New registers the collection: call it before db.Start. server tells whether the
// caller may act on the server of the request's path.
func New(db *store.DB, server func(r *rest.Request) error) *Migrations {
	return &Migrations{server: server, records: store.Register(db, store.Schema[Migration]{Service: "compute", Kind: "migration", Version: 1,
		ID:    func(m *Migration) string { return m.ID },
		Index: map[string]func(*Migration) []string{"server": func(m *Migration) []string { return []string{m.Server} }}})}
}

// Begin writes a new record in the caller's transaction.
func (s *Migrations) Begin(tx *store.Tx, m Migration) error {
	m.Created = time.Now().UTC()
	m.Updated = m.Created
	return s.records.TxCreate(tx, &m)
}

// Mark writes how far the migration is. Absent is fine: it may be older than the records.
func (s *Migrations) Mark(ctx context.Context, id, status string) error {
	_, err := s.records.Update(ctx, id, func(m *Migration) error {
		m.Status, m.Updated = status, time.Now().UTC()
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Aim writes, in the caller's transaction, where the server goes. Absent is fine.
func (s *Migrations) Aim(tx *store.Tx, id, target string) error {
	_, err := s.records.TxUpdate(tx, id, func(m *Migration) error {
		m.Target, m.Updated = target, time.Now().UTC()
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Turn is Aim with a new state.
func (s *Migrations) Turn(tx *store.Tx, id, target, status string) error {
	_, err := s.records.TxUpdate(tx, id, func(m *Migration) error {
		m.Target, m.Status, m.Updated = target, status, time.Now().UTC()
		return nil
	})
	return err
}

// Get gives a record.
func (s *Migrations) Get(id string) (*Migration, error) { return s.records.Get(id) }

// Of lists a server's records, the newest first.
func (s *Migrations) Of(server string) []*Migration {
	list := slices.Clone(s.records.By("server", server))
	slices.SortFunc(list, func(a, b *Migration) int { return b.Created.Compare(a.Created) })
	return list
}

// Heading is where a server's move that is under way goes, "" when that is not chosen.
func (s *Migrations) Heading(server string) string {
	for _, m := range s.records.By("server", server) {
		switch m.Status {
		case Preparing, Running, PostMigrating, PreMigrating:
			return m.Target
		}
	}
	return ""
}

// Follow writes how far a live migration has come.
func (s *Migrations) Follow(ctx context.Context, id string, p Progress) error {
	_, err := s.records.Update(ctx, id, func(m *Migration) error {
		m.Progress, m.Updated = &p, time.Now().UTC()
		return nil
	})
	return err
}

// Forget drops, in the caller's transaction, the records of a server that is gone for good.
func (s *Migrations) Forget(tx *store.Tx, server string) error {
	for _, m := range s.records.TxBy(tx, "server", server) {
		if err := s.records.TxDelete(tx, m.ID); err != nil {
			return err
		}
	}
	return nil
}

// Routes are the records' rows of the compute API.
func (s *Migrations) Routes() []rest.Route {
	const keys, page = `"hidden":{},"host":{},"instance_uuid":{},"source_compute":{},"status":{},"migration_type":{}`,
		`"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"marker":{},"changes-since":{}`
	open := func(lo, hi rest.Version, fields, more string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{`+fields+`},"additionalProperties":`+more+`}`)
	}
	return append(s.liveRoutes(), rest.Route{Method: "GET", Path: "/os-migrations", Policy: "os_compute_api:os-migrations:index", Handle: s.list, Query: []rest.Schema{
		open(rest.V(2, 1), rest.V(2, 58), keys, "true"), open(rest.V(2, 59), rest.V(2, 65), keys+","+page, "false"),
		open(rest.V(2, 66), rest.V(2, 79), keys+","+page+`,"changes-before":{}`, "false"),
		open(rest.V(2, 80), rest.Version{}, keys+","+page+`,"changes-before":{},"user_id":{},"project_id":{}`, "false")}})
}

// Policies are upstream's names and defaults.
func Policies() []policy.Rule {
	var out []policy.Rule
	for _, name := range []string{"os-migrations:index", "servers:migrations:index", "servers:migrations:show", "servers:migrations:force_complete", "servers:migrations:delete"} {
		out = append(out, policy.Rule{Name: "os_compute_api:" + name, Check: "rule:context_is_admin"})
	}
	return out
}

func (s *Migrations) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	since, before, err := span(r)
	if err != nil {
		return nil, err
	}
	found := []*Migration{}
	for _, m := range s.records.All() {
		if m.matches(r) && !m.Updated.Before(since) && (before.IsZero() || !m.Updated.After(before)) {
			found = append(found, m)
		}
	}
	page, err := rest.PageOf(r.Query(), 1000)
	if err != nil {
		return nil, err
	}
	if !r.AtLeast(2, 59) {
		page = rest.Page{Limit: len(found)}
	}
	page.Sorts = []rest.Sort{{Key: "created", Desc: true}}
	found, more, err := rest.Paginate(found, page, func(m *Migration) string { return m.ID },
		func(m *Migration, _ string) (string, bool) { return m.Created.Format(wire.SortTime), true })
	if err != nil {
		return nil, err
	}
	views := make([]any, len(found))
	for i, m := range found {
		views[i] = m.view(r)
	}
	body := map[string]any{"migrations": views}
	if more {
		body["migrations_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), "/compute/v2.1/os-migrations", r.Query(), found[len(found)-1].ID)}}
	}
	return rest.JSON(200, body), nil
}

// span reads changes-since (2.59) and changes-before (2.66).
func span(r *rest.Request) (since, before time.Time, err error) {
	for key, t := range map[string]*time.Time{"changes-since": &since, "changes-before": &before} {
		text := r.Query().Get(key)
		if text == "" || !r.AtLeast(2, 59) {
			continue
		}
		if *t, err = time.Parse(time.RFC3339, text); err != nil {
			if *t, err = time.Parse("2006-01-02T15:04:05", text); err != nil {
				return since, before, errs.Invalidf("Invalid input for query parameters %s. Value: %s.", key, text)
			}
		}
	}
	if !before.IsZero() && before.Before(since) {
		return since, before, errs.Invalidf("The value of changes-since must be less than or equal to changes-before.")
	}
	return since, before, nil
}

func (m *Migration) matches(r *rest.Request) bool {
	q := r.Query()
	for key, has := range map[string]string{"instance_uuid": m.Server, "source_compute": m.Source, "status": m.Status, "migration_type": m.Kind} {
		if q.Has(key) && q.Get(key) != has {
			return false
		}
	}
	if r.AtLeast(2, 80) && (q.Has("user_id") && q.Get("user_id") != m.UserID || q.Has("project_id") && q.Get("project_id") != m.ProjectID) {
		return false
	}
	return !q.Has("host") || q.Get("host") == m.Source || q.Get("host") == m.Target
}

const stamp = "2006-01-02T15:04:05.000000"

// view is a migration as upstream shows it (nova/api/openstack/compute/migrations.py).
func (m *Migration) view(r *rest.Request) map[string]any {
	v := map[string]any{"id": numberOf(m.ID), "instance_uuid": m.Server, "status": m.Status, "source_compute": m.Source, "source_node": m.Source,
		"dest_compute": wire.OrNull(m.Target), "dest_node": wire.OrNull(m.Target), "dest_host": nil, "old_instance_type_id": numberOf(m.OldFlavor), "new_instance_type_id": numberOf(m.NewFlavor),
		"created_at": m.Created.Format(stamp), "updated_at": m.Updated.Format(stamp)}
	if r.AtLeast(2, 23) {
		v["migration_type"] = m.Kind
		if m.Kind == Live && slices.Contains(inProgress, m.Status) {
			v["links"] = wire.Links(r.Base(), "servers/"+m.Server+"/migrations", strconv.Itoa(numberOf(m.ID)))
		}
	}
	if r.AtLeast(2, 59) {
		v["uuid"] = m.ID
	}
	if r.AtLeast(2, 80) {
		v["user_id"], v["project_id"] = m.UserID, m.ProjectID
	}
	return v
}

// numberOf stands for upstream's row number.
func numberOf(id string) int {
	h := fnv.New32a()
	h.Write([]byte(id))
	return int(h.Sum32() & 0x7fffffff)
}
