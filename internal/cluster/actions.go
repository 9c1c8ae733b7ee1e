package cluster

import (
	"context"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) resizeCluster(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		NodeCount int      `json:"node_count"`
		Remove    []string `json:"nodes_to_remove"`
		Group     string   `json:"nodegroup"`
	}
	if err := read(r.Body(), &b); err != nil {
		return nil, err
	}
	if err := zeroNodes(r, b.NodeCount); err != nil {
		return nil, err
	}
	g, err := s.groupOrDefault(c.ID, b.Group)
	if err != nil {
		return nil, err
	}
	if g.Role == masterRole {
		return nil, errs.Invalidf("Resizing the master nodegroup is not supported by this driver.")
	}
	if err := g.allows(b.NodeCount); err != nil {
		return nil, err
	}
	if strange := s.strangers(g.ID, b.Remove); len(strange) > 0 {
		return nil, errs.Invalidf("The nodes %s are not of nodegroup %s.", strings.Join(strange, ", "), g.Name)
	}
	if err := s.resize(ctx, r.Creds, r.ID, c, g, b.NodeCount, b.Remove); err != nil {
		return nil, err
	}
	return accepted(r, c.ID), nil
}

func (s *Service) groupOrDefault(cluster, ref string) (*Group, error) {
	if ref == "" {
		return s.defaultWorkers(cluster)
	}
	return s.group(cluster, ref)
}

// allows tells whether a group can have so many nodes.
func (g *Group) allows(count int) error {
	if count >= g.MinNodeCount && (g.MaxNodeCount == nil || *g.MaxNodeCount == 0 || count <= *g.MaxNodeCount) {
		return nil
	}
	most := "None"
	if g.MaxNodeCount != nil {
		most = text(*g.MaxNodeCount)
	}
	return errs.Invalidf("Resizing %s outside the allowed range: min_node_count = %d, max_node_count = %s", g.Name, g.MinNodeCount, most)
}

// strangers are names of no worker of the group.
func (s *Service) strangers(group string, names []string) (out []string) {
	for _, n := range names {
		if !slices.ContainsFunc(s.workers.By("group", group), func(w *Worker) bool { return w.called(n) }) {
			out = append(out, n)
		}
	}
	return out
}

// resize begins to change how many nodes a group has. It may wait for another one
// (magnum/conductor/handlers/cluster_conductor.py, cluster_resize).
func (s *Service) resize(ctx context.Context, who *policy.Credentials, request string, c *Cluster, g *Group, count int, remove []string) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.update(tx, c.ID, "Resizing", CreateComplete, UpdateComplete, UpdateFailed, UpdateInProgress); err != nil {
			return err
		}
		before := []string{}
		for _, w := range s.staying(tx, g.ID) {
			before = append(before, w.ID)
		}
		_, err := s.groups.TxUpdate(tx, g.ID, func(g *Group) error {
			if g.Status == DeleteInProgress {
				return busy("Resizing a nodegroup of", g.Status)
			}
			g.NodeCount = count
			g.turn(UpdateInProgress, "")
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, who, request, sagaResize, "resize", job{Cluster: c.ID, Group: g.ID, Before: before, Remove: remove})
	})
}

// update turns a cluster to being updated, if its status is one of these.
func (s *Service) update(tx *store.Tx, id, what string, from ...Status) error {
	_, err := s.clusters.TxUpdate(tx, id, func(c *Cluster) error {
		if !slices.Contains(from, c.Status) {
			return busy(what, c.Status)
		}
		c.turn(UpdateInProgress, "")
		return nil
	})
	if errs.Is(err, errs.NotFound) {
		return errs.NotFoundf("Cluster %s could not be found.", id)
	}
	return err
}

// upgradeCluster has the programs of the control plane and of workers started anew, which
// brings those that are installed by now.
func (s *Service) upgradeCluster(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if !r.AtLeast(1, 8) {
		return nil, errs.Invalidf("Cluster upgrade is not supported in the provided microversion.")
	}
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	b := struct {
		Template string `json:"cluster_template"`
		Batch    int    `json:"max_batch_size"`
		Group    string `json:"nodegroup"`
	}{Batch: 1}
	if err := read(r.Body(), &b); err != nil {
		return nil, err
	}
	t, err := s.template(r.Creds, b.Template)
	if err != nil {
		return nil, err
	}
	g, err := s.groupOrDefault(c.ID, b.Group)
	if err != nil {
		return nil, err
	}
	if t.ID != c.TemplateID && !g.Default {
		return nil, errs.Conflictf("Cluster Template is not valid for upgrade: Nodegroup %s can be upgraded only to match cluster's template (%s).", g.Name, c.TemplateID)
	}
	if (t.ServerType == virtual) != (g.Server != nil) {
		return nil, errs.Conflictf("Cluster Template is not valid for upgrade: its server type is %s, and the cluster's is another.", t.ServerType)
	}
	j := job{Cluster: c.ID, Group: g.ID, Template: t.ID, Control: g.Default, Batch: b.Batch}
	if g.Server != nil {
		if j.Server, _, err = s.Servers.Kind(ctx, r.Creds, g.Server.FlavorID, deref(t.ImageID)); err != nil {
			return nil, badReference(err, "%v", err)
		}
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		if err := s.update(tx, c.ID, "Upgrading", CreateComplete, UpdateComplete, UpdateFailed); err != nil {
			return err
		}
		if _, err := s.templates.TxGet(tx, t.ID); err != nil {
			return errs.NotFoundf("ClusterTemplate %s could not be found.", t.ID)
		}
		now, err := s.clusters.TxGet(tx, c.ID)
		if err != nil {
			return err
		}
		j.Target = now.Generation + 1
		for _, w := range s.workers.TxBy(tx, "cluster", c.ID) {
			j.Target = max(j.Target, w.Generation+1)
		}
		if _, err := s.groups.TxUpdate(tx, g.ID, func(g *Group) error { g.turn(UpdateInProgress, ""); return nil }); err != nil {
			return err
		}
		return s.begin(tx, r.Creds, r.ID, sagaUpgrade, "upgrade", j)
	})
	if err != nil {
		return nil, err
	}
	return accepted(r, c.ID), nil
}
