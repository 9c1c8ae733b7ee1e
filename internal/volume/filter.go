package volume

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// userFilters are what users may select by (cinder's resource_filters.json).
var userFilters = []string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size", "created_at", "updated_at", "consumes_quota", "glance_metadata"}

// addedFilters are since which minor version a filter is known; before, it is ignored.
var addedFilters = map[string]int{"glance_metadata": 4, "group_id": 10, "created_at": 60, "updated_at": 60, "consumes_quota": 65}

const sortTime = "2006-01-02T15:04:05.000000"

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (s *Service) sortKeys() wire.Keys[*block.Volume] {
	type vol = *block.Volume
	return wire.Keys[vol]{
		"id": func(v vol) string { return v.ID }, "name": func(v vol) string { return text(v.Name) }, "display_name": func(v vol) string { return text(v.Name) },
		"created_at": func(v vol) string { return v.Created.Format(sortTime) }, "updated_at": func(v vol) string { return v.Updated.Format(sortTime) },
		"status": func(v vol) string { return string(v.Status) }, "size": func(v vol) string { return strconv.Itoa(v.SizeGiB) }, "user_id": func(v vol) string { return v.UserID },
		"project_id": func(v vol) string { return v.ProjectID }, "availability_zone": func(v vol) string { return v.AZ }, "host": func(v vol) string { return v.Host() },
		"volume_type_id": func(v vol) string { return v.TypeID }, "bootable": func(v vol) string { return strconv.FormatBool(v.Bootable) },
		"migration_status": func(v vol) string { return v.MigrationStatus }, "snapshot_id": func(v vol) string { return v.SnapshotID }, "source_volid": func(v vol) string { return v.SourceID },
		"group_id": func(v vol) string { return v.GroupID }, "multiattach": func(v vol) string { return strconv.FormatBool(v.Multiattach) },
		"attach_status": func(v vol) string { return s.attachStatus(v) }, "encryption_key_id": func(v vol) string { return v.KeyID }, "description": func(v vol) string { return text(v.Description) },
	}
}

func (s *Service) attachStatus(v *block.Volume) string {
	for _, a := range s.Attachments.By("volume", v.ID) {
		if a.Status == block.AttachAttached {
			return "attached"
		}
	}
	return "detached"
}

type condition func(v *block.Volume) bool

// selected lists the volumes that the request asks for.
func (s *Service) selected(r *rest.Request, q *wire.Query) ([]*block.Volume, error) {
	conds, err := s.conditions(r, q)
	if err != nil {
		return nil, err
	}
	all := s.Volumes.By("project", r.Creds.ProjectID)
	if q.AllProjects {
		all = s.Volumes.All()
	}
	var out []*block.Volume
next:
	for _, v := range all {
		for _, ok := range conds {
			if !ok(v) {
				continue next
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func (s *Service) conditions(r *rest.Request, q *wire.Query) ([]condition, error) {
	var out []condition
	for key := range q.Filters {
		name, like := strings.CutSuffix(key, "~")
		if since, ok := addedFilters[name]; ok && !r.AtLeast(3, since) {
			continue
		}
		if !r.Creds.Admin() && !slices.Contains(userFilters, name) {
			if r.AtLeast(3, 31) {
				return nil, errs.Invalidf("Invalid filters %s are found in query options.", key)
			}
			continue
		}
		if like && !r.AtLeast(3, 34) {
			continue
		}
		c, err := s.condition(r, name, q.Filters.Get(key), like)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (s *Service) condition(r *rest.Request, key, val string, like bool) (condition, error) {
	switch key {
	case "metadata", "glance_metadata":
		var want map[string]string
		if err := json.Unmarshal([]byte(strings.ReplaceAll(val, "'", `"`)), &want); err != nil {
			return func(*block.Volume) bool { return false }, nil
		}
		return func(v *block.Volume) bool {
			have := v.Metadata
			if key == "glance_metadata" {
				have = v.ImageMetadata
			}
			return within(want, have)
		}, nil
	case "bootable", "multiattach", "consumes_quota":
		return flagCondition(r, key, val)
	case "created_at", "updated_at":
		return timeCondition(key, val)
	case "tenant_id":
		key = "project_id"
	}
	get := s.sortKeys()[key]
	if get == nil {
		return func(*block.Volume) bool { return false }, nil
	}
	if like {
		return func(v *block.Volume) bool { return strings.Contains(get(v), val) }, nil
	}
	if key == "host" {
		return func(v *block.Volume) bool { return get(v) == val || strings.HasPrefix(get(v), val+"#") }, nil
	}
	return func(v *block.Volume) bool { return get(v) == val }, nil
}

func within(want, have map[string]string) bool {
	for k, v := range want {
		if x, ok := have[k]; !ok || x != v {
			return false
		}
	}
	return true
}

// flagCondition reads a boolean: strictly from 3.2 on; before, whatever is not false is true.
func flagCondition(r *rest.Request, key, val string) (condition, error) {
	want := !strings.EqualFold(val, "false") && val != ""
	if r.AtLeast(3, 2) {
		var err error
		if want, err = wire.Flag(key, val); err != nil {
			return nil, wire.InvalidInput("'%s = %s'", key, val)
		}
	}
	return func(v *block.Volume) bool {
		switch key {
		case "bootable":
			return v.Bootable == want
		case "multiattach":
			return v.Multiattach == want
		}
		return want // every volume consumes quota
	}, nil
}

// timeCondition reads comparisons such as gt:2019-01-01T00:00:00,lt:2020-01-01 (3.60).
func timeCondition(key, val string) (condition, error) {
	var all []condition
	for part := range strings.SplitSeq(val, ",") {
		op, at, _ := strings.Cut(part, ":")
		if !slices.Contains([]string{"gt", "gte", "eq", "neq", "lt", "lte"}, op) {
			return nil, errs.Invalidf("Invalid %s operator", op)
		}
		t, err := parseTime(at)
		if err != nil {
			return nil, errs.Invalidf("Invalid %s value", at)
		}
		all = append(all, func(v *block.Volume) bool {
			have := v.Created
			if key == "updated_at" {
				have = v.Updated
			}
			c := have.Compare(t)
			return op == "gt" && c > 0 || op == "gte" && c >= 0 || op == "eq" && c == 0 || op == "neq" && c != 0 || op == "lt" && c < 0 || op == "lte" && c <= 0
		})
	}
	return func(v *block.Volume) bool {
		for _, ok := range all {
			if !ok(v) {
				return false
			}
		}
		return true
	}, nil
}

func parseTime(s string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05", "2006-01-02"} {
		var t time.Time
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}
