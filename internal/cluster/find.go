package cluster

import (
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// named gives the one of the list that has the id or, if that is none, the name.
func named[T any](list []*T, kind, ref string, id, name func(*T) string) (*T, error) {
	is := id
	if uuid.Validate(ref) != nil {
		is = name
	}
	list = slices.DeleteFunc(slices.Clone(list), func(v *T) bool { return is(v) != ref })
	switch len(list) {
	case 0:
		return nil, errs.NotFoundf("%s %s could not be found.", kind, ref)
	case 1:
		return list[0], nil
	}
	return nil, errs.Conflictf("Multiple %ss exist with same name. Please use the %s uuid instead.", kind, kind)
}

func (t *Template) name() string { return *t.Name }

func (t *Template) target() policy.Target {
	return policy.Target{"project_id": t.ProjectID, "user_id": t.UserID}
}

func (c *Cluster) target() policy.Target {
	return policy.Target{"project_id": c.ProjectID, "user_id": c.UserID}
}

// template finds one that the caller may see. What is public others see unless it is hidden.
func (s *Service) template(c *policy.Credentials, ref string) (*Template, error) {
	return named(s.visible(c), "ClusterTemplate", ref, func(t *Template) string { return t.ID }, (*Template).name)
}

func (s *Service) visible(c *policy.Credentials) []*Template {
	return slices.DeleteFunc(slices.Clone(s.templates.All()), func(t *Template) bool {
		return t.ProjectID != c.ProjectID && !c.Admin() && (!t.Public || t.Hidden)
	})
}

// cluster finds one of the caller's project, or for an administrator any.
func (s *Service) cluster(c *policy.Credentials, ref string) (*Cluster, error) {
	list := s.clusters.By("project", c.ProjectID)
	if c.Admin() {
		list = s.clusters.All()
	}
	return named(list, "Cluster", ref, func(c *Cluster) string { return c.ID }, func(c *Cluster) string { return c.Name })
}

// ofPath finds the cluster of the path and judges the route's policy on it.
func (s *Service) ofPath(r *rest.Request) (*Cluster, error) {
	c, err := s.cluster(r.Creds, r.Path("cluster"))
	if err != nil {
		return nil, err
	}
	return c, r.Enforce(c.target())
}

// group finds a cluster's node group.
func (s *Service) group(cluster, ref string) (*Group, error) {
	return named(s.groups.By("cluster", cluster), "Nodegroup", ref, func(g *Group) string { return g.ID }, func(g *Group) string { return g.Name })
}

// The groups that each cluster has (magnum/objects/cluster.py).
const (
	masterGroup = "default-master"
	workerGroup = "default-worker"

	masterRole = "master"
	workerRole = "worker"
)

// defaultWorkers is the cluster's first group of workers.
func (s *Service) defaultWorkers(cluster string) (*Group, error) {
	for _, g := range s.groups.By("cluster", cluster) {
		if g.Default && g.Role != masterRole {
			return g, nil
		}
	}
	return nil, errs.NotFoundf("Nodegroup %s could not be found.", workerGroup)
}

// staying are the workers that a group keeps, in a transaction.
func (s *Service) staying(tx *store.Tx, group string) (out []*Worker) {
	for _, w := range s.workers.TxBy(tx, "group", group) {
		if !w.Leaving {
			out = append(out, w)
		}
	}
	return out
}
