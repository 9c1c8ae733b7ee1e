package compute

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (f *Flavor) visibleTo(c *policy.Credentials) bool {
	return f.Public || c.Admin() || slices.Contains(f.Projects, c.ProjectID)
}

// flavor finds the flavor of the path; a private one of others does not exist.
func (s *Service) flavor(r *rest.Request) (*Flavor, error) {
	f, err := s.flavors.Get(r.Path("id"))
	if err != nil || !f.visibleTo(r.Creds) {
		return nil, errs.NotFoundf("Flavor %s could not be found.", r.Path("id"))
	}
	return f, nil
}

func flavorView(r *rest.Request, f *Flavor) map[string]any {
	swap := any(f.Swap)
	if f.Swap == 0 && !r.AtLeast(2, 75) {
		swap = ""
	}
	v := map[string]any{"id": f.ID, "name": f.Name, "ram": f.RAM, "vcpus": f.VCPUs, "disk": f.Disk, "swap": swap, "rxtx_factor": f.RxTx,
		"OS-FLV-EXT-DATA:ephemeral": f.Ephemeral, "OS-FLV-DISABLED:disabled": f.Disabled, "os-flavor-access:is_public": f.Public, "links": links(r.Base(), "flavors", f.ID)}
	if r.AtLeast(2, 55) {
		v["description"] = f.Description
	}
	if r.AtLeast(2, 61) && r.Allows("os_compute_api:os-flavor-extra-specs:index", r.Own()) {
		v["extra_specs"] = emptyMap(f.ExtraSpecs)
	}
	return v
}

func (s *Service) listFlavors(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		match, err := flavorFilter(r)
		if err != nil {
			return nil, err
		}
		var list []*Flavor
		for _, f := range s.flavors.All() {
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
		list, more, err := rest.Paginate(list, page, func(f *Flavor) string { return f.ID }, flavorSortKey)
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, f := range list {
			if views[i] = flavorView(r, f); !detail {
				v := map[string]any{"id": f.ID, "name": f.Name, "links": links(r.Base(), "flavors", f.ID)}
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

func flavorFilter(r *rest.Request) (func(*Flavor) bool, error) {
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
	return func(f *Flavor) bool {
		if f.RAM < least["minRam"] || f.Disk < least["minDisk"] {
			return false
		}
		if !c.Admin() {
			return f.visibleTo(c)
		}
		switch public {
		case "none":
			return true
		case "false", "0", "f", "no", "off":
			return !f.Public
		case "":
			return f.Public || slices.Contains(f.Projects, c.ProjectID)
		}
		return f.Public
	}, nil
}

func flavorSortKey(f *Flavor, key string) (string, bool) {
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
		return f.Created.Format(sortTime), true
	}
	return "", false
}

func (s *Service) showFlavor(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.flavor(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": flavorView(r, f)}), nil
}

func (s *Service) createFlavor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
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
	f := &Flavor{Name: strings.TrimSpace(in.Name), Description: in.Description, RAM: number(in.RAM), VCPUs: number(in.VCPUs), Disk: number(in.Disk),
		Swap: number(in.Swap), Ephemeral: number(in.Ephemeral), RxTx: 1, Public: in.Public == nil || truthy(in.Public), Created: now()}
	if f.ID = "auto"; in.ID != nil {
		f.ID = strings.TrimSpace(plain(in.ID))
	}
	if f.ID == "auto" || f.ID == "" {
		f.ID = uuid.NewString()
	}
	if in.RxTx != nil {
		if _, err := fmt.Sscan(fmt.Sprint(in.RxTx), &f.RxTx); err != nil || f.RxTx <= 0 {
			return nil, errs.Invalidf("Invalid input for field/attribute rxtx_factor. Value: %v.", in.RxTx)
		}
	}
	if err := s.AddFlavor(ctx, f); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": flavorView(r, f)}), nil
}

// AddFlavor adds a flavor; a taken id or name is a Conflict.
func (s *Service) AddFlavor(ctx context.Context, f *Flavor) error {
	err := s.flavors.Create(ctx, f)
	if errs.Is(err, errs.Conflict) {
		if _, taken := s.flavors.Unique("name", f.Name); taken {
			return errs.Conflictf("Flavor with name %s already exists.", f.Name)
		}
		return errs.Conflictf("Flavor with ID %s already exists.", f.ID)
	}
	return err
}

// number reads a count that the schema has vouched for.
func number(v any) int {
	if f, ok := v.(float64); ok {
		return int(f)
	}
	n, err := strconv.Atoi(strings.TrimSpace(fmt.Sprint(v)))
	if err != nil {
		return 0
	}
	return n
}

// plain is the text of a JSON string or number.
func plain(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func (s *Service) updateFlavor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Flavor struct {
			Description *string `json:"description"`
		} `json:"flavor"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	f, err := s.changeFlavor(ctx, r, func(f *Flavor) error { f.Description = b.Flavor.Description; return nil })
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"flavor": flavorView(r, f)}), nil
}

func (s *Service) changeFlavor(ctx context.Context, r *rest.Request, fn func(*Flavor) error) (*Flavor, error) {
	if _, err := s.flavor(r); err != nil {
		return nil, err
	}
	return s.flavors.Update(ctx, r.Path("id"), fn)
}

// deleteFlavor works while servers use it: they keep a copy.
func (s *Service) deleteFlavor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.flavor(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(202), s.flavors.Delete(ctx, f.ID)
}

func (s *Service) listSpecs(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.flavor(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"extra_specs": emptyMap(f.ExtraSpecs)}), nil
}

func (s *Service) showSpec(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.flavor(r)
	if err != nil {
		return nil, err
	}
	val, ok := f.ExtraSpecs[r.Path("key")]
	if !ok {
		return nil, errs.NotFoundf("Flavor %s has no extra specs with key %s.", f.ID, r.Path("key"))
	}
	return rest.JSON(200, map[string]string{r.Path("key"): val}), nil
}

var specKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func (s *Service) createSpecs(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Specs map[string]any `json:"extra_specs"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if err := checkSpecs(r, b.Specs); err != nil {
		return nil, err
	}
	out := map[string]string{}
	_, err := s.changeFlavor(ctx, r, func(f *Flavor) error { return addSpecs(f, b.Specs, out) })
	return rest.JSON(200, map[string]any{"extra_specs": out}), err
}

func addSpecs(f *Flavor, specs map[string]any, out map[string]string) error {
	if f.ExtraSpecs == nil {
		f.ExtraSpecs = map[string]string{}
	}
	for k, v := range specs {
		if !specKey.MatchString(k) || len(fmt.Sprint(v)) > 255 {
			return errs.Invalidf("Invalid input for field/attribute extra_specs. Value: %v.", specs)
		}
		f.ExtraSpecs[k], out[k] = fmt.Sprint(v), fmt.Sprint(v)
	}
	return nil
}

func (s *Service) updateSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]any
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if _, ok := b[r.Path("key")]; !ok || len(b) != 1 {
		return nil, errs.Invalidf("Request body and URI mismatch")
	}
	if err := checkSpecs(r, b); err != nil {
		return nil, err
	}
	out := map[string]string{}
	_, err := s.changeFlavor(ctx, r, func(f *Flavor) error { return addSpecs(f, b, out) })
	return rest.JSON(200, out), err
}

func (s *Service) deleteSpec(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.changeFlavor(ctx, r, func(f *Flavor) error {
		if _, ok := f.ExtraSpecs[r.Path("key")]; !ok {
			return errs.NotFoundf("Flavor %s has no extra specs with key %s.", f.ID, r.Path("key"))
		}
		delete(f.ExtraSpecs, r.Path("key"))
		return nil
	})
	return rest.Empty(200), err
}

func accessView(f *Flavor) map[string]any {
	list := make([]any, len(f.Projects))
	for i, p := range f.Projects {
		list[i] = map[string]string{"flavor_id": f.ID, "tenant_id": p}
	}
	return map[string]any{"flavor_access": list}
}

func (s *Service) listAccess(_ context.Context, r *rest.Request) (*rest.Response, error) {
	f, err := s.flavor(r)
	if err != nil {
		return nil, err
	}
	if f.Public {
		return nil, errs.NotFoundf("Access list not available for public flavors.")
	}
	return rest.JSON(200, accessView(f)), nil
}

// changeAccess adds or removes a project (addTenantAccess, removeTenantAccess).
func (s *Service) changeAccess(key string, add bool) rest.Handler {
	return func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
		var b map[string]struct {
			Tenant string `json:"tenant"`
		}
		if err := r.Decode(&b); err != nil {
			return nil, err
		}
		project := b[key].Tenant
		f, err := s.changeFlavor(ctx, r, func(f *Flavor) error {
			i := slices.Index(f.Projects, project)
			switch {
			case add && f.Public && r.AtLeast(2, 7):
				return errs.Conflictf("Can not add access to a public flavor.")
			case add && i >= 0:
				return errs.Conflictf("Flavor access already exists for flavor %s and project %s combination.", f.ID, project)
			case !add && i < 0:
				return errs.NotFoundf("Flavor access not found for %s / %s combination.", f.ID, project)
			case add:
				f.Projects = append(f.Projects, project)
			default:
				f.Projects = slices.Delete(f.Projects, i, i+1)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return rest.JSON(200, accessView(f)), nil
	}
}

// Seed writes the default flavors into an empty collection.
func (s *Service) Seed(ctx context.Context) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		for _, f := range []Flavor{{ID: "42", Name: "m1.nano", VCPUs: 1, RAM: 128, Disk: 1}, {ID: "84", Name: "m1.micro", VCPUs: 1, RAM: 192, Disk: 1},
			{ID: "1", Name: "m1.tiny", VCPUs: 1, RAM: 512, Disk: 1}, {ID: "2", Name: "m1.small", VCPUs: 1, RAM: 2048, Disk: 20}, {ID: "3", Name: "m1.medium", VCPUs: 2, RAM: 4096, Disk: 40}} {
			f.Public, f.RxTx, f.Created = true, 1, now()
			if err := s.flavors.TxCreate(tx, &f); err != nil {
				return err
			}
		}
		return nil
	})
}
