package identity

import (
	"context"
	"net/http"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// OS-EP-FILTER: which endpoints the catalog of a project shows. A project with
// neither endpoints nor endpoint groups of its own sees all.

func (r *request) endpointGroupView(g *directory.EndpointGroup) object {
	v := object{"id": g.ID, "name": g.Name, "description": nil, "filters": g.Filters, "links": r.links("/OS-EP-FILTER/endpoint_groups/" + g.ID)}
	if g.Description != nil {
		v["description"] = *g.Description
	}
	return v
}

func (r *request) endpointGroup() (*directory.EndpointGroup, error) {
	id := r.Path("endpoint_group_id")
	g, err := r.m.dir.EndpointGroups.Get(id)
	if err != nil {
		return nil, errs.NotFoundf("Could not find Endpoint Group: %s.", id)
	}
	return g, nil
}

func (m *mount) listEndpointGroups(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, g := range m.dir.EndpointGroups.All() {
		views = append(views, r.endpointGroupView(g))
	}
	return r.list("endpoint_groups", views, "name")
}

func (m *mount) showEndpointGroup(_ context.Context, r *request) (*rest.Response, error) {
	g, err := r.endpointGroup()
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"endpoint_group": r.endpointGroupView(g)}), nil
}

func applyEndpointGroup(g *directory.EndpointGroup, b ref) error {
	if b.has("name") {
		g.Name = b.text("name")
	}
	if b.has("description") {
		g.Description = b.optional("description")
	}
	if f, ok := b["filters"].(map[string]any); ok {
		for key := range f {
			if !slices.Contains([]string{"service_id", "region_id", "interface"}, key) {
				return errs.Invalidf("Expecting to find service_id or region_id or interface in endpoint_group.")
			}
		}
		g.Filters = f
	}
	if len(g.Filters) == 0 {
		return errs.Invalidf("filters field is required and cannot be empty")
	}
	return nil
}

func (m *mount) createEndpointGroup(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("endpoint_group")
	if err != nil {
		return nil, err
	}
	g := &directory.EndpointGroup{ID: directory.NewID()}
	if err := applyEndpointGroup(g, b); err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.EndpointGroups.TxCreate(tx, g) }); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"endpoint_group": r.endpointGroupView(g)}), nil
}

func (m *mount) updateEndpointGroup(ctx context.Context, r *request) (*rest.Response, error) {
	g, err := r.endpointGroup()
	if err != nil {
		return nil, err
	}
	b, err := r.ref("endpoint_group")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(g.ID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		g, err = m.dir.EndpointGroups.TxUpdate(tx, r.Path("endpoint_group_id"), func(g *directory.EndpointGroup) error {
			return applyEndpointGroup(g, cloneRef(b))
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"endpoint_group": r.endpointGroupView(g)}), nil
}

func (m *mount) deleteEndpointGroup(ctx context.Context, r *request) (*rest.Response, error) {
	g, err := r.endpointGroup()
	if err != nil {
		return nil, err
	}
	if err := m.dir.DeleteEndpointGroup(ctx, g.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// link is the association that the path names, after a look at its parts.
func (r *request) link() (*directory.EndpointLink, error) {
	l := &directory.EndpointLink{ProjectID: r.Path("project_id"), EndpointID: r.Path("endpoint_id"), GroupID: r.Path("endpoint_group_id")}
	if _, err := r.m.project(l.ProjectID); err != nil {
		return nil, err
	}
	if l.GroupID != "" {
		_, err := r.endpointGroup()
		return l, err
	}
	_, err := r.m.endpoint(l.EndpointID)
	return l, err
}

func (m *mount) putLink(ctx context.Context, r *request) (*rest.Response, error) {
	l, err := r.link()
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.EndpointLinks.TxPut(tx, l) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) checkLink(_ context.Context, r *request) (*rest.Response, error) {
	l, err := r.link()
	if err != nil {
		return nil, err
	}
	if _, err := m.dir.EndpointLinks.Get(l.ID()); err != nil {
		return nil, errs.NotFoundf("The endpoint or endpoint group is not associated with project %s.", l.ProjectID)
	}
	if l.GroupID != "" {
		return rest.JSON(http.StatusOK, object{"project_endpoint_group": object{"endpoint_group_id": l.GroupID, "project_id": l.ProjectID,
			"links": object{"self": r.self(r.selfPath())}}}), nil
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) deleteLink(ctx context.Context, r *request) (*rest.Response, error) {
	if _, err := m.checkLink(ctx, r); err != nil {
		return nil, err
	}
	l, err := r.link()
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.EndpointLinks.TxDelete(tx, l.ID()) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

func (m *mount) listProjectEndpoints(_ context.Context, r *request) (*rest.Response, error) {
	if _, err := m.project(r.Path("project_id")); err != nil {
		return nil, err
	}
	var views []object
	for _, e := range m.dir.ProjectEndpoints(r.Path("project_id")) {
		views = append(views, r.endpointView(e))
	}
	return r.list("endpoints", views)
}

func (m *mount) listProjectGroups(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, l := range m.dir.EndpointLinks.By("project", r.Path("project_id")) {
		if g, err := m.dir.EndpointGroups.Get(l.GroupID); err == nil {
			views = append(views, r.endpointGroupView(g))
		}
	}
	return r.list("endpoint_groups", views)
}

// listLinkedProjects lists the projects of an endpoint or of an endpoint group.
func (m *mount) listLinkedProjects(_ context.Context, r *request) (*rest.Response, error) {
	index, id := "endpoint", r.Path("endpoint_id")
	var err error
	if id == "" {
		index, id = "group", r.Path("endpoint_group_id")
		_, err = r.endpointGroup()
	} else {
		_, err = m.endpoint(id)
	}
	if err != nil {
		return nil, err
	}
	var views []object
	for _, l := range m.dir.EndpointLinks.By(index, id) {
		if p, err := m.dir.Projects.Get(l.ProjectID); err == nil {
			views = append(views, r.projectView(p))
		}
	}
	return r.list("projects", views)
}

func (m *mount) listGroupEndpoints(_ context.Context, r *request) (*rest.Response, error) {
	g, err := r.endpointGroup()
	if err != nil {
		return nil, err
	}
	var views []object
	for _, e := range m.dir.Endpoints.All() {
		if g.Holds(e) {
			views = append(views, r.endpointView(e))
		}
	}
	return r.list("endpoints", views)
}
