package directory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// CatalogEndpoint is an address as a token's catalog shows it.
type CatalogEndpoint struct {
	ID        string  `json:"id"`
	Interface string  `json:"interface"`
	RegionID  *string `json:"region_id"`
	URL       string  `json:"url"`
	Region    *string `json:"region"`
}

// CatalogService is a service as a token's catalog shows it.
type CatalogService struct {
	Endpoints []CatalogEndpoint `json:"endpoints"`
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Name      string            `json:"name"`
}

// Catalog is what is enabled, with the addresses filled in for the project.
// Addresses that need a project are left out when there is none.
func (d *Directory) Catalog(userID, projectID string) []CatalogService {
	out := []CatalogService{}
	only := map[string]bool{}
	for _, e := range d.ProjectEndpoints(projectID) {
		only[e.ID] = true
	}
	for _, s := range d.Services.All() {
		if !s.Enabled {
			continue
		}
		view := CatalogService{Endpoints: []CatalogEndpoint{}, ID: s.ID, Type: s.Type}
		if s.Name != nil {
			view.Name = *s.Name
		}
		for _, e := range d.Endpoints.By("service", s.ID) {
			url, ok := FillURL(e.URL, userID, projectID)
			if !e.Enabled || !ok || len(only) > 0 && !only[e.ID] {
				continue
			}
			ve := CatalogEndpoint{ID: e.ID, Interface: e.Interface, URL: url}
			if e.RegionID != "" {
				ve.RegionID, ve.Region = &e.RegionID, &e.RegionID
			}
			view.Endpoints = append(view.Endpoints, ve)
		}
		if len(only) > 0 && len(view.Endpoints) == 0 {
			continue
		}
		out = append(out, view)
	}
	slices.SortStableFunc(out, func(a, b CatalogService) int { return cmp.Compare(a.Type, b.Type) })
	return out
}

// FillURL replaces $(name)s and %(name)s; ok is false when a value is missing or the
// template is broken.
func FillURL(url, userID, projectID string) (string, bool) {
	values := map[string]string{"user_id": userID, "project_id": projectID, "tenant_id": projectID}
	var b strings.Builder
	for {
		i := strings.IndexAny(url, "$%")
		if i < 0 {
			b.WriteString(url)
			return b.String(), true
		}
		b.WriteString(url[:i])
		if !strings.HasPrefix(url[i+1:], "(") { // "%25" or a lone "$" is itself
			b.WriteByte(url[i])
			url = url[i+1:]
			continue
		}
		name, rest, ok := strings.Cut(url[i+2:], ")s")
		if !ok || values[name] == "" {
			return "", false
		}
		b.WriteString(values[name])
		url = rest
	}
}

// CheckURL says what is wrong with an endpoint's address.
func CheckURL(url string) error {
	if _, ok := FillURL(url, "u", "p"); !ok {
		return errs.Invalidf("Malformed endpoint URL (%s): only project_id, tenant_id and user_id can be filled in.", url)
	}
	return nil
}
