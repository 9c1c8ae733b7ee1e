package compute

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// filter is the query of a server list. Keys that the caller may not use are
// ignored, as upstream does (nova/api/openstack/compute/servers.py, remove_invalid_options).
type filter struct {
	allProjects                bool
	project                    string
	deleted, soft              bool // those that are deleted, for good or softly; also the latter
	changesSince, changesUntil time.Time
	checks                     []func(v *Server) bool
}

func (f *filter) match(v *Server) bool {
	if v.DeletedAt != nil && !f.deleted && f.changesSince.IsZero() && f.changesUntil.IsZero() {
		return false
	}
	if f.deleted && v.DeletedAt == nil && v.VMState != SoftDeleted {
		return false
	}
	if v.VMState == SoftDeleted && !f.soft && !f.deleted && f.changesSince.IsZero() && f.changesUntil.IsZero() {
		return false
	}
	if v.Updated.Before(f.changesSince) || !f.changesUntil.IsZero() && v.Updated.After(f.changesUntil) {
		return false
	}
	for _, ok := range f.checks {
		if !ok(v) {
			return false
		}
	}
	return true
}

// filterKey is a query key that compares one attribute. Whoever may not use all
// filters may use it from the version since on; a zero since keeps it for them.
type filterKey struct {
	since rest.Version
	exact bool // otherwise a regular expression, as upstream's database compares
	get   func(*Server) string
}

// filterKeys follow _get_server_search_options and the exact matches of
// instance_get_all_by_filters_sort (nova/db/main/api.py).
var filterKeys = map[string]filterKey{
	"reservation_id": {rest.V(2, 1), false, func(v *Server) string { return v.ReservationID }},
	"name":           {rest.V(2, 1), false, func(v *Server) string { return v.Name }},
	"image":          {rest.V(2, 1), true, func(v *Server) string { return v.Image.ID }},
	"flavor":         {rest.V(2, 1), true, func(v *Server) string { return v.Flavor.ID }},
	"config_drive":   {rest.V(2, 83), false, func(v *Server) string { return configDriveText(v) }},
	"key_name":       {rest.V(2, 83), false, func(v *Server) string { return v.keyName() }},
	"created_at":     {rest.V(2, 83), false, func(v *Server) string { return v.Created.Format(filterTime) }},
	"launched_at":    {rest.V(2, 83), false, func(v *Server) string { return timeText(v.Launched) }},
	"terminated_at":  {rest.V(2, 83), false, func(v *Server) string { return timeText(v.DeletedAt) }},
	"power_state":    {rest.V(2, 83), true, func(v *Server) string { return strconv.Itoa(powerState(v)) }},
	"task_state":     {rest.V(2, 83), true, func(v *Server) string { return string(v.TaskState) }},
	"vm_state":       {rest.V(2, 83), true, func(v *Server) string { return string(v.VMState) }},
	"user_id":        {rest.V(2, 83), true, func(v *Server) string { return v.UserID }},
	"hostname":       {rest.V(2, 90), false, func(v *Server) string { return v.Hostname }},
	"uuid":           {get: func(v *Server) string { return v.ID }, exact: true},
	"display_name":   {get: func(v *Server) string { return v.Name }},
	"image_ref":      {get: func(v *Server) string { return v.Image.ID }, exact: true},
	"access_ip_v4":   {get: func(v *Server) string { return v.AccessIPv4 }},
	"access_ip_v6":   {get: func(v *Server) string { return v.AccessIPv6 }},
	"host":           {get: func(v *Server) string { return v.Host }, exact: true},
	"node":           {get: func(v *Server) string { return v.Host }},
	"launch_index":   {get: func(v *Server) string { return strconv.Itoa(v.LaunchIndex) }, exact: true},
}

const filterTime = "2006-01-02 15:04:05"

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(filterTime)
}

func (s *Service) parseFilter(r *rest.Request) (*filter, error) {
	q, f := r.Query(), &filter{}
	every := r.Allows("os_compute_api:servers:allow_all_filters", r.Own())
	if q.Has("all_tenants") {
		v := strings.ToLower(q.Get("all_tenants"))
		if !slices.Contains([]string{"", "1", "0", "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off"}, v) {
			return nil, errs.Invalidf("Invalid value %q for all_tenants", v)
		}
		f.allProjects = slices.Contains([]string{"", "1", "true", "t", "yes", "y", "on"}, v)
	}
	if every && f.allProjects { // without all_tenants upstream ignores the key
		f.project = first(q, "project_id", "tenant_id")
	}
	f.deleted = every && wire.Truthy(q.Get("deleted"))
	f.soft = every && wire.Truthy(q.Get("soft_deleted"))
	if err := f.parseTimes(r); err != nil {
		return nil, err
	}
	if err := f.addStatus(r); err != nil {
		return nil, err
	}
	return f, f.addChecks(s, r, every)
}

func (f *filter) parseTimes(r *rest.Request) (err error) {
	q := r.Query()
	if f.changesSince, err = timeOf(q, "changes-since"); err != nil {
		return err
	}
	if !r.AtLeast(2, 66) {
		return nil
	}
	if f.changesUntil, err = timeOf(q, "changes-before"); err != nil {
		return err
	}
	if !f.changesUntil.IsZero() && f.changesUntil.Before(f.changesSince) {
		return errs.Invalidf("The value of changes-since must be less than or equal to changes-before.")
	}
	return nil
}

// statuses are those that a server can be listed by (nova/api/openstack/common.py, _STATE_MAP).
var statuses = []string{"ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "MIGRATING", "PASSWORD", "PAUSED", "REBOOT", "REBUILD", "RESCUE", "RESIZE",
	"REVERT_RESIZE", "SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "SOFT_DELETED", "SUSPENDED", "UNKNOWN", "VERIFY_RESIZE"}

func (f *filter) addStatus(r *rest.Request) error {
	if !r.Query().Has("status") {
		return nil
	}
	var want []string
	for _, w := range r.Query()["status"] {
		if w = strings.ToUpper(w); slices.Contains(statuses, w) {
			want = append(want, w)
		}
	}
	if len(want) == 0 && r.AtLeast(2, 38) {
		return errs.Invalidf("Invalid status value")
	}
	if len(want) == 1 && want[0] == "DELETED" {
		if !r.Creds.Admin() {
			return errs.Forbiddenf("Only administrators may list deleted instances")
		}
		f.deleted = true
	}
	f.add(func(v *Server) bool { return slices.Contains(want, status(v)) })
	return nil
}

func (f *filter) add(check func(*Server) bool) { f.checks = append(f.checks, check) }

func (f *filter) addChecks(s *Service, r *rest.Request, every bool) error {
	q := r.Query()
	for name, key := range filterKeys {
		if want := q[name]; len(want) > 0 && (every || key.since != rest.Version{} && r.Version.AtLeast(key.since)) {
			if err := f.addKey(name, key, want); err != nil {
				return err
			}
		}
	}
	if want := q["availability_zone"]; len(want) > 0 && (every || r.AtLeast(2, 83)) {
		f.add(func(v *Server) bool { return slices.Contains(want, s.zoneOf(v)) })
	}
	for key, v4 := range map[string]bool{"ip": true, "ip6": false} {
		if want := q.Get(key); want != "" && (v4 || every || r.AtLeast(2, 5)) {
			f.add(s.addressCheck(want, v4))
		}
	}
	if r.AtLeast(2, 73) && q.Has("locked") {
		want := wire.Truthy(q.Get("locked"))
		f.add(func(v *Server) bool { return (v.Locked != "") == want })
	}
	if r.AtLeast(2, 26) {
		f.addTags(q)
	}
	return nil
}

func (f *filter) addKey(name string, key filterKey, want []string) error {
	if key.exact {
		f.add(func(v *Server) bool { return slices.Contains(want, key.get(v)) })
		return nil
	}
	re, err := regexp.Compile("(?i)" + want[0])
	if err != nil {
		return errs.Invalidf("Invalid filter pattern for %s: %s", name, want[0])
	}
	f.add(func(v *Server) bool { return re.MatchString(key.get(v)) })
	return nil
}

func (s *Service) addressCheck(want string, v4 bool) func(*Server) bool {
	re, err := regexp.Compile(want)
	return func(v *Server) bool {
		for _, p := range s.Networks.Ports(v.ID) {
			for _, ip := range p.FixedIPs {
				if ip.Addr.Is4() != v4 {
					continue
				}
				if a, e := netip.ParseAddr(want); e == nil && a == ip.Addr || err == nil && re.MatchString(ip.Addr.String()) {
					return true
				}
			}
		}
		return false
	}
}

func (f *filter) addTags(q url.Values) {
	all := func(v *Server, tags []string) bool {
		return !slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(v.Tags, t) })
	}
	some := func(v *Server, tags []string) bool {
		return slices.ContainsFunc(tags, func(t string) bool { return slices.Contains(v.Tags, t) })
	}
	for key, check := range map[string]func(*Server, []string) bool{
		"tags": all, "tags-any": some,
		"not-tags":     func(v *Server, t []string) bool { return !all(v, t) },
		"not-tags-any": func(v *Server, t []string) bool { return !some(v, t) },
	} {
		if q.Get(key) != "" {
			tags := strings.Split(q.Get(key), ",")
			f.add(func(v *Server) bool { return check(v, tags) })
		}
	}
}

func timeOf(q url.Values, key string) (time.Time, error) {
	text := q.Get(key)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, strings.ReplaceAll(text, " ", "+")); err == nil {
			return t.UTC(), nil
		} else if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errs.Invalidf("Invalid %s value: %s", key, text)
}

func first(q url.Values, keys ...string) string {
	for _, k := range keys {
		if v := q.Get(k); v != "" {
			return v
		}
	}
	return ""
}
