package cluster

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/store"
)

// wanted is a cluster as it is asked for.
type wanted struct {
	ClusterFields
	Name        *string `json:"name"`
	TemplateRef string  `json:"cluster_template_id"`
	NodeCount   int     `json:"node_count"`
	MasterCount int     `json:"master_count"`
	MergeLabels bool    `json:"merge_labels"`
	FloatingIP  *bool   `json:"floating_ip_enabled"`
	MasterLB    *bool   `json:"master_lb_enabled"`

	size    Size        // of a worker
	server  *ServerKind // of workers that are servers
	network *PodNetwork // that there is already

	external *string // network of the template
	out      string  // it, by its id
}

// defaultTimeout is how many minutes a create may take.
const defaultTimeout = 60

func (s *Service) createCluster(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	w := wanted{NodeCount: 1, MasterCount: 1, ClusterFields: ClusterFields{CreateTimeout: defaultTimeout}}
	if err := read(r.Body(), &w); err != nil {
		return nil, err
	}
	t, err := s.template(r.Creds, w.TemplateRef)
	switch {
	case err != nil && !r.AtLeast(1, 10):
		return nil, badReference(err, "ClusterTemplate %s could not be found.", w.TemplateRef)
	case err != nil:
		return nil, err
	case t.Hidden && !r.Creds.Admin():
		return nil, errs.Forbiddenf("Not authorized.")
	}
	if err := zeroNodes(r, w.NodeCount); err != nil {
		return nil, err
	}
	if w.MasterCount != 1 {
		return nil, errs.Invalidf("Clusters with %d masters are not supported: a control plane is one set of programs on a control member.", w.MasterCount)
	}
	w.inherit(&t.TemplateFields)
	if err := s.fitNetwork(r.Creds, &w); err != nil {
		return nil, err
	}
	if err := s.fitFlavors(ctx, r.Creds, w.MasterFlavorID); err != nil {
		return nil, err
	}
	if t.ServerType == virtual {
		w.server, w.size, err = s.Servers.Kind(ctx, r.Creds, deref(w.FlavorID), deref(t.ImageID))
		err = badReference(err, "%v", err)
	} else {
		w.size, err = s.size(ctx, r.Creds, w.FlavorID)
	}
	if err != nil {
		return nil, err
	}
	id, err := s.create(ctx, r.Creds, r.ID, t, &w)
	if err != nil {
		return nil, err
	}
	return accepted(r, id), nil
}

// accepted answers what goes on without the caller.
func accepted(r *rest.Request, cluster string) *rest.Response {
	return rest.JSON(202, map[string]any{"uuid": cluster}).With("Location", r.Base()+prefix+"/clusters/"+cluster)
}

// zeroNodes refuses groups without nodes at versions that do not know them.
func zeroNodes(r *rest.Request, count int) error {
	if count == 0 && !r.AtLeast(1, 10) {
		return errs.Invalidf("Resizing a nodegroup to zero is not supported in the provided microversion.")
	}
	return nil
}

// inherit takes from the template what was not asked for.
func (w *wanted) inherit(t *TemplateFields) {
	switch {
	case len(w.Labels) == 0:
		w.Labels = t.Labels.clone()
	case w.MergeLabels:
		all := t.Labels.clone()
		maps.Copy(all, w.Labels)
		w.Labels = all
	}
	own := &w.ClusterFields
	w.external = t.ExternalNetworkID
	for _, f := range []struct{ to, from **string }{{&own.Keypair, &t.KeypairID}, {&own.FlavorID, &t.FlavorID}, {&own.MasterFlavorID, &t.MasterFlavorID},
		{&own.FixedNetwork, &t.FixedNetwork}, {&own.FixedSubnet, &t.FixedSubnet}} {
		if *f.to == nil {
			*f.to = *f.from
		}
	}
	if own.DockerVolumeSize == nil {
		own.DockerVolumeSize = t.DockerVolumeSize
	}
	own.FloatingIP, own.MasterLB = t.FloatingIP, t.MasterLB
	if w.FloatingIP != nil {
		own.FloatingIP = *w.FloatingIP
	}
	if w.MasterLB != nil {
		own.MasterLB = *w.MasterLB
	}
	own.Name = anyName("cluster")
	if w.Name != nil {
		own.Name = *w.Name
	}
}

// create writes a cluster and begins to make it.
func (s *Service) create(ctx context.Context, who *policy.Credentials, request string, t *Template, w *wanted) (string, error) {
	c := &Cluster{ID: uuid.NewString(), ProjectID: who.ProjectID, UserID: who.UserID, TemplateID: t.ID, ClusterFields: w.ClusterFields, Status: CreateInProgress, Created: now(), Network: w.network, External: w.out}
	workers := s.newGroup(c, GroupFields{Name: workerGroup, Role: workerRole, NodeCount: w.NodeCount, FlavorID: c.FlavorID, ImageID: t.ImageID, Labels: c.Labels, DockerVolumeSize: c.DockerVolumeSize})
	masters := s.newGroup(c, GroupFields{Name: masterGroup, Role: masterRole, NodeCount: w.MasterCount, MinNodeCount: 1, FlavorID: c.MasterFlavorID, ImageID: t.ImageID, Labels: c.Labels, DockerVolumeSize: c.DockerVolumeSize})
	workers.Default, masters.Default, workers.Size = true, true, w.size
	workers.Server = w.server
	return c.ID, s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.templates.TxGet(tx, t.ID); err != nil {
			return errs.NotFoundf("ClusterTemplate %s could not be found.", t.ID)
		}
		if limit := s.limit(tx, c.ProjectID); s.clusters.TxCount(tx, "project", c.ProjectID) >= limit {
			return errs.New(errs.QuotaExceeded, "Resource limit exceeded: You have reached the maximum clusters per project, %d. You may delete a cluster to make room for a new one.", limit)
		}
		if err := s.takeSlot(tx, c); err != nil {
			return err
		}
		for _, g := range []*Group{masters, workers} {
			if err := s.groups.TxCreate(tx, g); err != nil {
				return err
			}
		}
		if err := s.clusters.TxCreate(tx, c); err != nil {
			return err
		}
		return s.begin(tx, who, request, sagaCreate, "create", job{Cluster: c.ID, Group: workers.ID})
	})
}

func (s *Service) newGroup(c *Cluster, f GroupFields) *Group {
	return &Group{ID: uuid.NewString(), ClusterID: c.ID, ProjectID: c.ProjectID, GroupFields: f, Status: CreateInProgress, Created: now()}
}

func (s *Service) begin(tx *store.Tx, who *policy.Credentials, request, kind, action string, j job) error {
	return s.Sagas.Begin(tx, saga.Start{ID: uuid.NewString(), Kind: kind, Resource: j.Cluster, Action: action, RequestID: request, ProjectID: who.ProjectID, UserID: who.UserID, State: j})
}

func (s *Service) showCluster(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, s.view(r, c, true)), nil
}

func (s *Service) listClusters(path string, detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		list := s.clusters.By("project", r.Creds.ProjectID)
		if r.Creds.Admin() {
			list = s.clusters.All()
		}
		return listing(r, "clusters", path, list, func(c *Cluster) string { return c.ID }, s.field, func(c *Cluster) any { return s.view(r, c, detail) })
	}
}

func (s *Service) field(c *Cluster, key string) (string, bool) {
	v := document(c.ClusterFields)
	v["uuid"], v["id"], v["created_at"], v["updated_at"], v["project_id"], v["user_id"] = c.ID, stamp(c.Created), stamp(c.Created), stampOf(c.Updated), c.ProjectID, c.UserID
	v["status"], v["cluster_template_id"] = c.Status, c.TemplateID
	v["node_count"], v["master_count"], _ = s.counts(c)
	return sortKey(v, key)
}

// fixedCluster are attributes that nobody sets.
var fixedCluster = []string{"/api_address", "/node_addresses", "/master_addresses", "/stack_id", "/cluster_id", "/ca_cert_ref", "/magnum_cert_ref", "/etcd_ca_cert_ref", "/front_proxy_ca_cert_ref"}

// updateCluster changes the number of the default workers, as all that upstream lets be
// changed but health, which is not told by others here.
func (s *Service) updateCluster(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	list, err := patches(r, fixedCluster, []string{"/cluster_template_id"})
	if err != nil {
		return nil, err
	}
	g, err := s.defaultWorkers(c.ID)
	if err != nil {
		return nil, err
	}
	before, doc := s.patchable(c), s.patchable(c)
	if err := apply(doc, list); err != nil {
		return nil, err
	}
	var other []string
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if name != "node_count" && text(doc[name]) != text(before[name]) {
			other = append(other, name)
		}
	}
	if len(other) > 0 {
		return nil, errs.Invalidf("cannot change cluster property(ies) %s.", strings.Join(other, ", "))
	}
	count, err := patchedCount(list, g.NodeCount)
	if err != nil {
		return nil, err
	}
	if err := zeroNodes(r, count); err != nil {
		return nil, err
	}
	if !c.complete() {
		return nil, busy("Updating", c.Status)
	}
	if count != g.NodeCount {
		if err := s.resize(ctx, r.Creds, r.ID, c, g, count, nil); err != nil {
			return nil, err
		}
	}
	return accepted(r, c.ID), nil
}

// patchable is a cluster as patches see it.
func (s *Service) patchable(c *Cluster) map[string]any {
	doc := document(c.ClusterFields)
	h := s.health(c)
	doc["cluster_template_id"], doc["status"], doc["status_reason"], doc["health_status"], doc["health_status_reason"] = c.TemplateID, string(c.Status), textOf(c.Reason), textOf(h.status), h.reasons
	doc["node_count"], doc["master_count"], _ = s.counts(c)
	return doc
}

// patchedCount is the number of nodes that a patch asks for.
func patchedCount(list []change, count int) (int, error) {
	for _, c := range list {
		if c.Path != "/node_count" {
			continue
		}
		w := struct {
			NodeCount int `json:"node_count"`
		}{1} // what a cluster has of which nothing is said
		if c.Op != "remove" {
			doc := []byte(`{"node_count":` + string(c.Value) + `}`)
			if err := countSchema.Validate(doc); err != nil {
				return 0, err
			}
			if err := read(doc, &w); err != nil {
				return 0, err
			}
		}
		count = w.NodeCount
	}
	return count, nil
}

// complete tells whether nothing goes on and nothing failed.
func (c *Cluster) complete() bool { return c.Status == CreateComplete || c.Status == UpdateComplete }

func busy(what string, st Status) error {
	return errs.Invalidf("%s a cluster when status is \"%s\" is not supported.", what, st)
}

func (s *Service) deleteCluster(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.ofPath(r)
	if err != nil {
		return nil, err
	}
	if err := s.remove(ctx, r.Creds, r.ID, c.ID); err != nil {
		return nil, err
	}
	return rest.Empty(204), nil
}

// remove begins the end of a cluster, whatever goes on with it.
func (s *Service) remove(ctx context.Context, who *policy.Credentials, request, id string) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		c, err := s.clusters.TxGet(tx, id)
		if err != nil {
			return errs.NotFoundf("Cluster %s could not be found.", id)
		}
		if c.Status == DeleteInProgress {
			return nil
		}
		if _, err := s.clusters.TxUpdate(tx, id, func(c *Cluster) error { c.turn(DeleteInProgress, ""); return nil }); err != nil {
			return err
		}
		for _, g := range s.groups.TxBy(tx, "cluster", id) {
			if _, err := s.groups.TxUpdate(tx, g.ID, func(g *Group) error { g.turn(DeleteInProgress, ""); return nil }); err != nil {
				return err
			}
		}
		if err := s.Sagas.CancelAll(tx, id); err != nil {
			return err
		}
		return s.begin(tx, who, request, sagaDelete, "delete", job{Cluster: id})
	})
}

func (c *Cluster) turn(st Status, reason string) {
	c.Status, c.Reason, c.Updated = st, reason, ptr(now())
}

func (g *Group) turn(st Status, reason string) {
	g.Status, g.Reason, g.Updated = st, reason, ptr(now())
}
