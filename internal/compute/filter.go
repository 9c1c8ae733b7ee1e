package compute

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// filter is the query of a server list. Only administrators may use the admin-only
// keys; others' are ignored, as upstream does (nova/api/openstack/compute/servers.py,
// _get_server_search_options).
type filter struct {
	allProjects                bool
	project                    string
	deleted                    bool
	changesSince, changesUntil time.Time
	checks                     []func(s *Service, v *Server) bool
}

func (f *filter) match(s *Service, v *Server) bool {
	if v.DeletedAt != nil && !f.deleted && f.changesSince.IsZero() {
		return false
	}
	if f.deleted && v.DeletedAt == nil {
		return false
	}
	if v.Updated.Before(f.changesSince) || !f.changesUntil.IsZero() && v.Updated.After(f.changesUntil) {
		return false
	}
	for _, ok := range f.checks {
		if !ok(s, v) {
			return false
		}
	}
	return true
}

func parseFilter(r *rest.Request) (*filter, error) {
	q, f, admin := r.Query(), &filter{}, r.Creds.Admin()
	if q.Has("all_tenants") || q.Has("all_projects") {
		v := strings.ToLower(q.Get("all_tenants") + q.Get("all_projects"))
		if !slices.Contains([]string{"", "1", "0", "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off"}, v) {
			return nil, errs.Invalidf("Invalid value for all_tenants: %s", v)
		}
		f.allProjects = slices.Contains([]string{"", "1", "true", "t", "yes", "y", "on"}, v)
	}
	if p := first(q, "project_id", "tenant_id"); admin && p != "" {
		if !f.allProjects && p != r.Creds.ProjectID {
			p = r.Creds.ProjectID // upstream ignores the key without all_tenants
		}
		f.project = p
	}
	f.deleted = admin && truthy(q.Get("deleted"))
	var err error
	if f.changesSince, err = timeOf(q, "changes-since"); err != nil {
		return nil, err
	}
	if f.changesUntil, err = timeOf(q, "changes-before"); err != nil {
		return nil, err
	}
	if !f.changesUntil.IsZero() && f.changesUntil.Before(f.changesSince) {
		return nil, errs.Invalidf("The value of changes-since must be less than or equal to changes-before.")
	}
	return f, f.addChecks(r, q, admin)
}

func (f *filter) add(check func(*Server) bool) {
	f.checks = append(f.checks, func(_ *Service, v *Server) bool { return check(v) })
}

// equal are the keys that compare one attribute as text.
var equalKeys = map[string]func(*Server) string{
	"reservation_id":    func(v *Server) string { return v.ReservationID },
	"uuid":              func(v *Server) string { return v.ID },
	"image":             func(v *Server) string { return v.Image.ID },
	"flavor":            func(v *Server) string { return v.Flavor.ID },
	"user_id":           func(v *Server) string { return v.UserID },
	"hostname":          func(v *Server) string { return v.Hostname },
	"availability_zone": func(*Server) string { return defaultZone },
	"key_name": func(v *Server) string {
		if v.Key == nil {
			return ""
		}
		return v.Key.Name
	},
	"access_ip_v4": func(v *Server) string { return v.AccessIPv4 },
	"access_ip_v6": func(v *Server) string { return v.AccessIPv6 },
	"config_drive": func(v *Server) string { return configDriveText(v) },
}

// adminKeys are those that upstream takes from administrators only below 2.83 and for some for ever.
var adminKeys = map[string]func(*Server) string{
	"host":         func(v *Server) string { return v.Host },
	"node":         func(v *Server) string { return v.Host },
	"vm_state":     func(v *Server) string { return string(v.VMState) },
	"task_state":   func(v *Server) string { return string(v.TaskState) },
	"power_state":  func(v *Server) string { return fmt.Sprint(powerState(v.VMState)) },
	"launch_index": func(v *Server) string { return fmt.Sprint(v.LaunchIndex) },
}

func (f *filter) addChecks(r *rest.Request, q url.Values, admin bool) error {
	for key, get := range equalKeys {
		if want := q[key]; len(want) > 0 {
			f.add(func(v *Server) bool { return slices.Contains(want, get(v)) })
		}
	}
	for key, get := range adminKeys {
		if want := q[key]; admin && len(want) > 0 {
			f.add(func(v *Server) bool { return slices.Contains(want, get(v)) })
		}
	}
	if name := q.Get("name"); name != "" {
		re, err := regexp.Compile(name)
		if err != nil {
			return errs.Invalidf("Invalid filter pattern for name: %s", name)
		}
		f.add(func(v *Server) bool { return re.MatchString(v.Name) })
	}
	for key, family := range map[string]bool{"ip": true, "ip6": false} {
		if want := q.Get(key); want != "" {
			f.checks = append(f.checks, addressCheck(want, family))
		}
	}
	if want := q["status"]; len(want) > 0 {
		f.add(func(v *Server) bool {
			return slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, status(v)) })
		})
	}
	if r.AtLeast(2, 73) && q.Has("locked") {
		want := truthy(q.Get("locked"))
		f.add(func(v *Server) bool { return (v.Locked != "") == want })
	}
	if r.AtLeast(2, 26) {
		f.addTags(q)
	}
	return nil
}

func addressCheck(want string, v4 bool) func(*Service, *Server) bool {
	re, err := regexp.Compile(want)
	return func(s *Service, v *Server) bool {
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
