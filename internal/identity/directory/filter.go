package directory

import (
	"context"

	"github.com/strata-cloud/strata/internal/store"
)

// EndpointGroup is the endpoints that match all of its filters
// (service_id, region_id, interface).
type EndpointGroup struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	Description *string        `json:"description,omitempty"`
	Filters     map[string]any `json:"filters"`
}

// Holds tells whether the endpoint matches.
func (g *EndpointGroup) Holds(e *Endpoint) bool {
	has := map[string]string{"service_id": e.ServiceID, "region_id": e.RegionID, "interface": e.Interface}
	for k, v := range g.Filters {
		if v != has[k] {
			return false
		}
	}
	return true
}

// EndpointLink shows an endpoint, or those of a group, in the catalog of a project.
type EndpointLink struct {
	ProjectID  string `json:"project_id"`
	EndpointID string `json:"endpoint_id,omitempty"` // exactly one of these two
	GroupID    string `json:"group_id,omitempty"`
}

// ID is that of the pair.
func (l *EndpointLink) ID() string { return l.ProjectID + "+" + l.EndpointID + l.GroupID }

func (d *Directory) registerFilters(db *store.DB) {
	d.EndpointGroups = collection(db, "endpointgroup", func(g *EndpointGroup) string { return g.ID }, nil, nil)
	d.EndpointLinks = collection(db, "endpointlink", (*EndpointLink).ID, nil, keys[EndpointLink]{
		"project":  func(l *EndpointLink) []string { return []string{l.ProjectID} },
		"endpoint": func(l *EndpointLink) []string { return some(l.EndpointID) },
		"group":    func(l *EndpointLink) []string { return some(l.GroupID) },
	})
}

// ProjectEndpoints lists the endpoints to which a project is confined, none
// when it is not.
func (d *Directory) ProjectEndpoints(projectID string) []*Endpoint {
	links := d.EndpointLinks.By("project", projectID)
	if len(links) == 0 {
		return nil
	}
	var out []*Endpoint
	for _, e := range d.Endpoints.All() {
		for _, l := range links {
			g, _ := d.EndpointGroups.Get(l.GroupID)
			if l.EndpointID == e.ID || g != nil && g.Holds(e) {
				out = append(out, e)
				break
			}
		}
	}
	return out
}

func (d *Directory) linkDrops(index, value string) []drop {
	return dropsOf(d.EndpointLinks.By(index, value), d.EndpointLinks, (*EndpointLink).ID)
}

// DeleteEndpointGroup deletes a group of endpoints, not the endpoints.
func (d *Directory) DeleteEndpointGroup(ctx context.Context, id string) error {
	return d.run(ctx, append(d.linkDrops("group", id), func(tx *store.Tx) error { return d.EndpointGroups.TxDelete(tx, id) }))
}

// DeleteEndpoint deletes an endpoint.
func (d *Directory) DeleteEndpoint(ctx context.Context, id string) error {
	return d.run(ctx, d.endpointDrops(id))
}

func (d *Directory) endpointDrops(id string) []drop {
	return append(d.linkDrops("endpoint", id), func(tx *store.Tx) error { return txDrop(tx, d.Endpoints, id) })
}
