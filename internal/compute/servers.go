package compute

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// authorized finds the server of the path and enforces the route's policy on it.
func (s *Service) authorized(r *rest.Request) (*Server, error) {
	v, err := s.find(r.Creds, r.Path("id"))
	if err != nil {
		return nil, err
	}
	return v, r.Enforce(target(v))
}

// unlocked refuses changes of a locked server, except to those whom policy lets override.
func (s *Service) unlocked(r *rest.Request, v *Server) error {
	if v.Locked == "" || r.Allows("os_compute_api:os-lock-server:unlock:unlock_override", target(v)) {
		return nil
	}
	return errs.Conflictf("Instance %s is locked", v.ID)
}

func (s *Service) showServer(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server": s.serverView(r, v, false)}), nil
}

func (s *Service) listServers(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		f, err := s.parseFilter(r)
		if err != nil {
			return nil, err
		}
		if f.allProjects {
			rule := "os_compute_api:servers:index:get_all_tenants"
			if detail {
				rule = "os_compute_api:servers:detail:get_all_tenants"
			}
			if err := r.EnforceRule(rule, r.Own()); err != nil {
				return nil, err
			}
		}
		page, err := rest.PageOf(r.Query(), 1000)
		if err != nil {
			return nil, err
		}
		if page.Sorts, err = serverSorts(r, page.Sorts); err != nil {
			return nil, err
		}
		found := s.matching(r.Creds, f)
		if r.Query().Get("limit") == "0" {
			found = nil // upstream: none, not all
		}
		list, more, err := rest.Paginate(found, page, func(v *Server) string { return v.ID }, serverSortKey)
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, v := range list {
			if detail {
				views[i] = s.serverView(r, v, true)
			} else {
				views[i] = map[string]any{"id": v.ID, "name": v.Name, "links": wire.Links(r.Base(), "servers", v.ID)}
			}
		}
		body := map[string]any{"servers": views}
		if more {
			path := "/compute/v2.1/servers"
			if detail {
				path += "/detail"
			}
			body["servers_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), path, r.Query(), list[len(list)-1].ID)}}
		}
		return rest.JSON(200, body), nil
	}
}

// matching lists the servers that the filter lets through.
func (s *Service) matching(c *policy.Credentials, f *filter) []*Server {
	var pool []*Server
	switch {
	case f.allProjects && f.project == "":
		pool = s.servers.All()
	case f.allProjects:
		pool = s.servers.By("project", f.project)
	default:
		pool = s.servers.By("project", c.ProjectID)
	}
	if f.deleted || !f.changesSince.IsZero() || !f.changesUntil.IsZero() {
		for _, v := range s.servers.By("deleted", "yes") {
			if !f.allProjects && v.ProjectID == c.ProjectID || f.allProjects && f.project == v.ProjectID {
				pool = append(pool, v)
			}
		}
	}
	out := make([]*Server, 0, len(pool))
	for _, v := range pool {
		if f.match(v) {
			out = append(out, v)
		}
	}
	return out
}

// ignoredSorts are keys that are valid and do nothing.
var ignoredSorts = []string{"architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at",
	"disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "memory_mb", "os_type", "reservation_id", "root_gb",
	"shutdown_terminate", "user_data", "vcpus", "vm_mode"}

func serverSorts(r *rest.Request, sorts []rest.Sort) ([]rest.Sort, error) {
	var out []rest.Sort
	for _, s := range sorts {
		switch {
		case slices.Contains(ignoredSorts, s.Key) || s.Key == "locked" && !r.AtLeast(2, 73):
		case (s.Key == "host" || s.Key == "node") && !r.Creds.Admin():
			return nil, errs.Forbiddenf("Only administrators can sort servers by %s", s.Key)
		default:
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		out = []rest.Sort{{Key: "created_at", Desc: true}}
	}
	return out, nil
}

// serverSortKey gives the text of the keys that upstream sorts servers by.
func serverSortKey(v *Server, key string) (string, bool) {
	switch key {
	case "created_at":
		return v.Created.Format(wire.SortTime), true
	case "updated_at":
		return v.Updated.Format(wire.SortTime), true
	case "launched_at":
		if v.Launched == nil {
			return "", true
		}
		return v.Launched.Format(wire.SortTime), true
	case "display_name":
		return v.Name, true
	case "uuid":
		return v.ID, true
	case "hostname":
		return v.Hostname, true
	case "host", "node":
		return v.Host, true
	case "vm_state":
		return string(v.VMState), true
	case "task_state":
		return string(v.TaskState), true
	case "power_state":
		return strconv.Itoa(powerState(v)), true
	case "project_id":
		return v.ProjectID, true
	case "user_id":
		return v.UserID, true
	case "image_ref":
		return v.Image.ID, true
	case "key_name":
		return v.keyName(), true
	case "availability_zone":
		return v.AZ, true
	case "locked":
		return strconv.FormatBool(v.Locked != ""), true
	case "instance_type_id":
		return v.Flavor.ID, true
	case "launch_index":
		return strconv.Itoa(v.LaunchIndex), true
	case "display_description", "config_drive", "root_device_name", "auto_disk_config", "terminated_at", "access_ip_v4", "access_ip_v6", "kernel_id", "ramdisk_id", "locked_by", "progress":
		return "", true
	}
	return "", false
}

func (s *Service) updateServer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Server struct {
			Name        *string          `json:"name"`
			Description optional[string] `json:"description"`
			DiskConfig  *string          `json:"OS-DCF:diskConfig"`
			AccessIPv4  *string          `json:"accessIPv4"`
			AccessIPv6  *string          `json:"accessIPv6"`
			Hostname    *string          `json:"hostname"`
		} `json:"server"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Server
	v, err = s.servers.Update(ctx, v.ID, func(v *Server) error {
		if v.DeletedAt != nil {
			return errs.NotFoundf("Instance %s could not be found.", v.ID)
		}
		if in.Name != nil {
			v.Name = strings.TrimSpace(*in.Name)
		}
		set(&v.DiskConfig, in.DiskConfig)
		set(&v.AccessIPv4, in.AccessIPv4)
		if in.AccessIPv6 != nil {
			v.AccessIPv6 = canonical(*in.AccessIPv6)
		}
		set(&v.Hostname, in.Hostname)
		if in.Description.Set {
			v.Description = in.Description.Value
		}
		v.Updated = wire.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"server": s.updatedView(r, v)}), nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
