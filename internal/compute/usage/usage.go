// Package usage is the reports of what projects' servers took over time
// (os-simple-tenant-usage).
package usage

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// Usage is what stays of a purged server for the reports of its project's usage.
type Usage struct {
	ID        string    `json:"id"` // of the server
	ProjectID string    `json:"project_id"`
	Name      string    `json:"name"`
	Flavor    string    `json:"flavor"`
	VCPUs     int       `json:"vcpus"`
	MemoryMiB int       `json:"memory_mib"`
	DiskGiB   int       `json:"disk_gib"`
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"` // zero: it still runs
}

// keep is how long the usage of purged servers can be reported.
const keep = 400 * 24 * time.Hour

// Reports makes the reports, of the servers there are and of those purged.
type Reports struct {
	live func() []Usage
	used *store.Collection[Usage]
}

// New registers the collection: call it before db.Start. live lists the usage of
// the servers that are not purged.
func New(db *store.DB, live func() []Usage) *Reports {
	return &Reports{live, store.Register(db, store.Schema[Usage]{Service: "compute", Kind: "usage", Version: 1,
		ID: func(u *Usage) string { return u.ID }})}
}

// Keep writes, in the caller's transaction, what stays of a server that is purged.
func (s *Reports) Keep(tx *store.Tx, u *Usage) error { return s.used.TxPut(tx, u) }

// Expired lists what ended too long ago to be reported.
func (s *Reports) Expired(at time.Time) []string {
	var out []string
	for _, u := range s.used.All() {
		if u.Ended.Add(keep).Before(at) {
			out = append(out, u.ID)
		}
	}
	return out
}

// Forget drops a usage. Absent is fine.
func (s *Reports) Forget(ctx context.Context, id string) error {
	if err := s.used.Delete(ctx, id); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

// Routes are the reports' rows of the compute API.
func (s *Reports) Routes() []rest.Route {
	const at, rule = "/os-simple-tenant-usage", "os_compute_api:os-simple-tenant-usage:"
	page := `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"marker":{},`
	closed := []rest.Schema{rest.SchemaIn(rest.V(2, 75), rest.Version{}, `{"type":"object","properties":{`+page+`"start":{},"end":{},"detailed":{}},"additionalProperties":false}`)}
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "list", Query: closed, Handle: s.list},
		{Method: "GET", Path: at + "/{id}", Policy: rule + "show", Query: closed, Handle: s.show},
	}
}

// period is what start= and end= name; each defaults to now.
func period(q url.Values) (from, to time.Time, err error) {
	at := time.Now().UTC()
	from, to = at, at
	for key, t := range map[string]*time.Time{"start": &from, "end": &to} {
		if text := q.Get(key); text != "" {
			if *t, err = timeOf(text); err != nil {
				return from, to, err
			}
		}
	}
	if to.Before(from) || q.Get("start") != "" && from.Equal(to) {
		return from, to, errs.Invalidf("Invalid start time. The start time cannot occur after the end time.")
	}
	return from, to, nil
}

func timeOf(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errs.Invalidf("Datetime is in invalid format: %s", text)
}

// usages lists, by project, what overlaps with the period.
func (s *Reports) usages(project string, from, to time.Time) map[string][]Usage {
	out := map[string][]Usage{}
	add := func(u Usage) {
		if (project == "" || u.ProjectID == project) && u.Started.Before(to) && (u.Ended.IsZero() || u.Ended.After(from)) {
			out[u.ProjectID] = append(out[u.ProjectID], u)
		}
	}
	for _, u := range s.live() {
		add(u)
	}
	for _, u := range s.used.All() {
		add(*u)
	}
	return out
}

// hours is how long the server ran in the period.
func (u *Usage) hours(from, to time.Time) float64 {
	if u.Started.After(from) {
		from = u.Started
	}
	if !u.Ended.IsZero() && u.Ended.Before(to) {
		to = u.Ended
	}
	return max(to.Sub(from).Hours(), 0)
}

const stamp = "2006-01-02T15:04:05.000000"

func view(project string, list []Usage, from, to time.Time, detailed bool) map[string]any {
	var hours, vcpus, memory, disk float64
	views := []any{}
	for _, u := range list {
		h := u.hours(from, to)
		hours, vcpus, memory, disk = hours+h, vcpus+h*float64(u.VCPUs), memory+h*float64(u.MemoryMiB), disk+h*float64(u.DiskGiB)
		end, until := any(nil), time.Now().UTC()
		if !u.Ended.IsZero() {
			end, until = u.Ended.Format(stamp), u.Ended
		}
		views = append(views, map[string]any{"instance_id": u.ID, "name": u.Name, "hours": h, "flavor": u.Flavor, "vcpus": u.VCPUs, "memory_mb": u.MemoryMiB, "local_gb": u.DiskGiB,
			"tenant_id": project, "state": u.State, "started_at": u.Started.Format(stamp), "ended_at": end, "uptime": int(until.Sub(u.Started).Seconds())})
	}
	v := map[string]any{"tenant_id": project, "total_hours": hours, "total_vcpus_usage": vcpus, "total_memory_mb_usage": memory, "total_local_gb_usage": disk,
		"start": from.Format(stamp), "stop": to.Format(stamp)}
	if detailed {
		v["server_usages"] = views
	}
	return v
}

// cut keeps, from 2.40 on, the page of servers after the marker, and names the last one when there are more.
func cut(r *rest.Request, all map[string][]Usage) (last string, err error) {
	if !r.AtLeast(2, 40) {
		return "", nil
	}
	page, err := rest.PageOf(r.Query(), 1000)
	if err != nil {
		return "", err
	}
	page.Sorts = nil
	flat := []Usage{}
	for _, list := range all {
		flat = append(flat, list...)
	}
	flat, more, err := rest.Paginate(flat, page, func(u Usage) string { return u.ID }, func(u Usage, _ string) (string, bool) { return u.ID, true })
	if err != nil {
		return "", err
	}
	clear(all)
	for _, u := range flat {
		all[u.ProjectID] = append(all[u.ProjectID], u)
	}
	if more {
		last = flat[len(flat)-1].ID
	}
	return last, nil
}

func (s *Reports) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	from, to, err := period(r.Query())
	if err != nil {
		return nil, err
	}
	all := s.usages("", from, to)
	last, err := cut(r, all)
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		views = append(views, view(p, all[p], from, to, strings.TrimSpace(r.Query().Get("detailed")) == "1"))
	}
	body := map[string]any{"tenant_usages": views}
	if last != "" {
		body["tenant_usages_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), "/compute/v2.1/os-simple-tenant-usage", r.Query(), last)}}
	}
	return rest.JSON(200, body), nil
}

func (s *Reports) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	id := r.Path("id")
	if err := r.Enforce(policy.Target{"project_id": id}); err != nil {
		return nil, err
	}
	from, to, err := period(r.Query())
	if err != nil {
		return nil, err
	}
	all := s.usages(id, from, to)
	last, err := cut(r, all)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"tenant_usage": map[string]any{}}
	if len(all[id]) > 0 {
		body["tenant_usage"] = view(id, all[id], from, to, true)
	}
	if last != "" {
		body["tenant_usage_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), fmt.Sprintf("/compute/v2.1/os-simple-tenant-usage/%s", id), r.Query(), last)}}
	}
	return rest.JSON(200, body), nil
}
