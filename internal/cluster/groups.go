package cluster

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// clusterOf finds the cluster of the path for a rule on node groups, which upstream judges
// on the caller's own project.
func (s *Service) clusterOf(r *rest.Request) (*Cluster, error) {
	c, err := s.cluster(r.Creds, r.Path("cluster"))
	if err != nil {
		return nil, err
	}
	return c, r.Enforce(c.target())
}

func (s *Service) groupOf(r *rest.Request) (*Cluster, *Group, error) {
	c, err := s.clusterOf(r)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.group(c.ID, r.Path("group"))
	return c, g, err
}

func (s *Service) listGroups(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.clusterOf(r)
	if err != nil {
		return nil, err
	}
	var list []*Group
	for _, g := range s.groups.By("cluster", c.ID) {
		if role := r.Query().Get("role"); role == "" || role == g.Role {
			list = append(list, g)
		}
	}
	return listing(r, "nodegroups", "/clusters/"+c.ID+"/nodegroups", list, func(g *Group) string { return g.ID }, (*Group).field, func(g *Group) any { return s.groupView(r, g, false) })
}

func (g *Group) field(key string) (string, bool) {
	v := document(g.GroupFields)
	v["uuid"], v["id"], v["status"], v["is_default"], v["created_at"] = g.ID, stamp(g.Created)+map[bool]string{true: "", false: "+"}[g.Default], g.Status, g.Default, stamp(g.Created)
	return sortKey(v, key)
}

func (s *Service) showGroup(_ context.Context, r *rest.Request) (*rest.Response, error) {
	_, g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, s.groupView(r, g, true)), nil
}

func (s *Service) createGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.clusterOf(r)
	if err != nil {
		return nil, err
	}
	b := struct {
		GroupFields
		MergeLabels bool `json:"merge_labels"`
	}{GroupFields: GroupFields{Role: workerRole, NodeCount: 1}}
	if err := read(r.Body(), &b); err != nil {
		return nil, err
	}
	if c.Address == "" {
		return nil, errs.Conflictf("Cluster API address is not available yet")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	g := s.newGroup(c, b.GroupFields)
	if err := s.complete(ctx, r, c, g, b.MergeLabels); err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		for _, x := range s.groups.TxBy(tx, "cluster", c.ID) {
			if x.Name == g.Name {
				return errs.Conflictf("A node group with name %s already exists in the cluster %s.", g.Name, c.Name)
			}
		}
		if err := s.update(tx, c.ID, "Adding a nodegroup to", CreateComplete, UpdateComplete, UpdateFailed, UpdateInProgress); err != nil {
			return err
		}
		if err := s.groups.TxCreate(tx, g); err != nil {
			return err
		}
		return s.begin(tx, r.Creds, r.ID, sagaResize, "create nodegroup", job{Cluster: c.ID, Group: g.ID, Before: []string{}})
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, s.groupView(r, g, true)), nil
}

// complete gives a new group what it has of its cluster.
func (s *Service) complete(ctx context.Context, r *rest.Request, c *Cluster, g *Group, merge bool) (err error) {
	if g.FlavorID == nil {
		g.FlavorID = c.FlavorID
	}
	if t, err := s.templates.Get(c.TemplateID); err == nil && g.ImageID == nil {
		g.ImageID = t.ImageID
	}
	switch {
	case g.Labels == nil:
		g.Labels = c.Labels.clone()
	case merge:
		all := c.Labels.clone()
		maps.Copy(all, g.Labels)
		g.Labels = all
	}
	g.Server, g.Size, err = s.serverKind(ctx, r.Creds, c, g.FlavorID, g.ImageID)
	if err == nil && g.Server == nil {
		g.Size, err = s.size(ctx, r.Creds, g.FlavorID)
	}
	return err
}

// check refuses a group that cannot be (magnum/api/controllers/v1/nodegroup.py).
func (f *GroupFields) check() error {
	if err := f.limits(); err != nil {
		return err
	}
	if f.Role == masterRole {
		return errs.Invalidf("Creating master nodegroups is currently not supported.")
	}
	return nil
}

func (f *GroupFields) limits() error {
	bad := func(attr, format string, args ...any) error {
		return errs.Conflictf("%s for %s is invalid ("+format+").", append([]any{attr, f.Name}, args...)...)
	}
	if most := f.MaxNodeCount; most != nil && *most > 0 {
		if *most < f.MinNodeCount {
			return bad("max_node_count", "min_node_count (%d) should be less or equal to max_node_count (%d)", f.MinNodeCount, *most)
		}
		if f.NodeCount > *most {
			return bad("max_node_count", "node_count (%d) should be less or equal to max_node_count (%d)", f.NodeCount, *most)
		}
	}
	if f.MinNodeCount > f.NodeCount {
		return bad("min_node_count", "min_node_count (%d) should be less or equal to node_count (%d)", f.MinNodeCount, f.NodeCount)
	}
	return nil
}

// fixedGroup are the attributes that a patch of a group cannot change.
var fixedGroup = []string{"/name", "/cluster_id", "/docker_volume_size", "/labels", "/flavor_id", "/image_id", "/node_addresses", "/node_count", "/role", "/is_default", "/stack_id", "/status", "/status_reason", "/version"}

func (s *Service) updateGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	list, err := patches(r, fixedGroup, nil)
	if err != nil {
		return nil, err
	}
	doc := document(g.GroupFields)
	if err := apply(doc, list); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(map[string]any{"name": g.Name, "min_node_count": doc["min_node_count"], "max_node_count": doc["max_node_count"]})
	if err == nil {
		err = groupSchema.Validate(raw)
	}
	if err != nil {
		return nil, err
	}
	var next GroupFields
	if err := read(raw, &next); err != nil {
		return nil, err
	}
	g, err = s.groups.Update(ctx, g.ID, func(g *Group) error {
		g.MinNodeCount, g.MaxNodeCount, g.Updated = next.MinNodeCount, next.MaxNodeCount, ptr(now())
		return g.limits()
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(202, s.groupView(r, g, true)), nil
}

func (s *Service) deleteGroup(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, g, err := s.groupOf(r)
	if err != nil {
		return nil, err
	}
	if g.Default {
		return nil, errs.Invalidf("Deleting a default nodegroup is not supported.")
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		now, err := s.groups.TxGet(tx, g.ID)
		if err != nil {
			return errs.NotFoundf("Nodegroup %s could not be found.", g.ID)
		}
		if now.Status == DeleteInProgress {
			return nil
		}
		if err := s.update(tx, c.ID, "Deleting a nodegroup of", CreateComplete, UpdateComplete, UpdateFailed, UpdateInProgress); err != nil {
			return err
		}
		if _, err := s.groups.TxUpdate(tx, g.ID, func(g *Group) error { g.turn(DeleteInProgress, ""); return nil }); err != nil {
			return err
		}
		return s.begin(tx, r.Creds, r.ID, sagaDropGroup, "delete nodegroup", job{Cluster: c.ID, Group: g.ID})
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), nil
}
