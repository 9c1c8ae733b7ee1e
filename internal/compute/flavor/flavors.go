package flavor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// VisibleTo tells whether the caller may see and use the flavor.
func (f *Flavor) VisibleTo(c *policy.Credentials) bool {
	return f.Public || c.Admin() || slices.Contains(f.Projects, c.ProjectID)
}

// flavor finds the flavor of the path; a private one of others does not exist.
func (s *Flavors) ofPath(r *rest.Request) (*Flavor, error) {
	f, err := s.all.Get(r.Path("id"))
	if err != nil || !f.VisibleTo(r.Creds) {
		return nil, errs.NotFoundf("Flavor %s could not be found.", r.Path("id"))
	}
	return f, nil
}

func view(r *rest.Request, f *Flavor) map[string]any {
	swap := any(f.Swap)
	if f.Swap == 0 && !r.AtLeast(2, 75) {
		swap = ""
	}
	v := map[string]any{"id": f.ID, "name": f.Name, "ram": f.RAM, "vcpus": f.VCPUs, "disk": f.Disk, "swap": swap, "rxtx_factor": f.RxTx,
		"OS-FLV-EXT-DATA:ephemeral": f.Ephemeral, "OS-FLV-DISABLED:disabled": f.Disabled, "os-flavor-access:is_public": f.Public, "links": wire.Links(r.Base(), "flavors", f.ID)}
	if r.AtLeast(2, 55) {
		v["description"] = f.Description
	}
	if r.AtLeast(2, 61) && r.Allows("os_compute_api:os-flavor-extra-specs:index", r.Own()) {
		v["extra_specs"] = specsOf(f.ExtraSpecs)
	}
	return v
}

func (s *Flavors) list(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		match, err := filter(r)
		if err != nil {
			return nil, err
		}
		var list []*Flavor
		for _, f := range s.all.All() {
			if match(f) {
				list = append(list, f)
			}
		}
		page, err := rest.PageOf(r.Query(), 1000)
		if err != nil {
			return nil, err
		}
		if len(page.Sorts) == 0 {
			page.Sorts = []rest.Sort{{Key: "flavorid"}}
		}
		list, more, err := rest.Paginate(list, page, func(f *Flavor) string { return f.ID }, sortKey)
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, f := range list {
			if views[i] = view(r, f); !detail {
				v := map[string]any{"id": f.ID, "name": f.Name, "links": wire.Links(r.Base(), "flavors", f.ID)}
				if r.AtLeast(2, 55) {
					v["description"] = f.Description
				}
				views[i] = v
			}
		}
		body := map[string]any{"flavors": views}
		if more {
			path := "/compute/v2.1/flavors"
			if detail {
				path += "/detail"
			}
			body["flavors_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), path, r.Query(), list[len(list)-1].ID)}}
		}
		return rest.JSON(200, body), nil
	}
}

func filter(r *rest.Request) (func(*Flavor) bool, error) {
	q, c := r.Query(), r.Creds
	least := map[string]int{}
	for _, k := range []string{"minRam", "minDisk"} {
		if q.Has(k) {
			n, err := strconv.Atoi(q.Get(k))
			if err != nil {
				return nil, errs.Invalidf("Invalid %s filter [%s]", k, q.Get(k))
			}
			least[k] = n
		}
	}
	public := strings.ToLower(q.Get("is_public"))
	if !slices.Contains([]string{"", "none", "true", "1", "t", "yes", "y", "on", "false", "0", "f", "no", "n", "off"}, public) && c.Admin() {
		return nil, errs.Invalidf("Invalid is_public filter [%s]", q.Get("is_public"))
	}
	return func(f *Flavor) bool {
		if f.RAM < least["minRam"] || f.Disk < least["minDisk"] {
			return false
		}
		if !c.Admin() {
			return f.VisibleTo(c)
		}
		switch public {
		case "none":
			return true
		case "false", "0", "f", "no", "n", "off":
			return !f.Public
		case "":
			return f.Public || slices.Contains(f.Projects, c.ProjectID)
		}
		return f.Public
	}, nil
}

func sortKey(f *Flavor, key string) (string, bool) {
	switch key {
	case "flavorid", "id":
		return f.ID, true
	case "name":
		return f.Name, true
	case "memory_mb":
		return strconv.Itoa(f.RAM), true
	case "vcpus":
		return strconv.Itoa(f.VCPUs), true
	case "root_gb":
		return strconv.Itoa(f.Disk), true
	case "ephemeral_gb":
		return strconv.Itoa(f.Ephemeral), true
	case "swap":
		return strconv.Itoa(f.Swap), true
	case "created_at", "updated_at", "disabled", "is_public", "rxtx_factor", "vcpu_weight":
		return f.Created.Format(wire.SortTime), true
	}
	return "", false
}

func (s *Flavors) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": view(r, f)}), nil
}

func (s *Flavors) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Flavor struct {
			ID          any     `json:"id"`
			Name        string  `json:"name"`
			Description *string `json:"description"`
			RAM         any     `json:"ram"`
			VCPUs       any     `json:"vcpus"`
			Disk        any     `json:"disk"`
			Swap        any     `json:"swap"`
			Ephemeral   any     `json:"OS-FLV-EXT-DATA:ephemeral"`
			RxTx        any     `json:"rxtx_factor"`
			Public      any     `json:"os-flavor-access:is_public"`
		} `json:"flavor"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Flavor
	f := &Flavor{Name: strings.TrimSpace(in.Name), Description: in.Description, RAM: wire.Number(in.RAM), VCPUs: wire.Number(in.VCPUs), Disk: wire.Number(in.Disk),
		Swap: wire.Number(in.Swap), Ephemeral: wire.Number(in.Ephemeral), RxTx: 1, Public: in.Public == nil || wire.Truthy(in.Public), Created: wire.Now()}
	if f.ID = "auto"; in.ID != nil {
		f.ID = strings.TrimSpace(wire.Text(in.ID))
	}
	if f.ID == "auto" || f.ID == "" {
		f.ID = uuid.NewString()
	}
	if in.RxTx != nil {
		if _, err := fmt.Sscan(fmt.Sprint(in.RxTx), &f.RxTx); err != nil || f.RxTx <= 0 {
			return nil, errs.Invalidf("Invalid input for field/attribute rxtx_factor. Value: %v.", in.RxTx)
		}
	}
	if err := s.Add(ctx, f); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": view(r, f)}), nil
}

// Add adds a flavor; a taken id or name is a Conflict.
func (s *Flavors) Add(ctx context.Context, f *Flavor) error {
	err := s.all.Create(ctx, f)
	if errs.Is(err, errs.Conflict) {
		if _, taken := s.all.Unique("name", f.Name); taken {
			return errs.Conflictf("Flavor with name %s already exists.", f.Name)
		}
		return errs.Conflictf("Flavor with ID %s already exists.", f.ID)
	}
	return err
}

func (s *Flavors) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Flavor struct {
			Description *string `json:"description"`
		} `json:"flavor"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	f, err := s.change(ctx, r, func(f *Flavor) error { f.Description = b.Flavor.Description; return nil })
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": view(r, f)}), nil
}

func (s *Flavors) change(ctx context.Context, r *rest.Request, fn func(*Flavor) error) (*Flavor, error) {
	if _, err := s.ofPath(r); err != nil {
		return nil, err
	}
	return s.all.Update(ctx, r.Path("id"), fn)
}

// remove works while servers use it: they keep a copy.
func (s *Flavors) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.all.Delete(ctx, f.ID)
}
