package cluster

import (
	"net/http/httptest"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/certificates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clustertemplates"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/nodegroups"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/quotas"

	"github.com/strata-cloud/strata/internal/saga"
)

// client is upstream's library for Go as one of the people.
func (w *world) client(t *testing.T, who string) *gophercloud.ServiceClient {
	srv := httptest.NewServer(w.handler)
	t.Cleanup(srv.Close)
	return &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: who}, Endpoint: srv.URL + prefix + "/", Type: "container-infrastructure-management", Microversion: "1.11"}
}

// TestGophercloud takes a cluster through its life with a client that is not ours.
func TestGophercloud(t *testing.T) {
	w, ctx := newWorld(t, saga.Options{}).start(), t.Context()
	c := w.client(t, "owner")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tpl, err := clustertemplates.Create(ctx, c, clustertemplates.CreateOpts{Name: "small", COE: "kubernetes", ServerType: "bm", ImageID: "tiny", Labels: map[string]string{"a": "b"}}).Extract()
	check(err)
	tpl, err = clustertemplates.Update(ctx, c, tpl.UUID, []clustertemplates.UpdateOptsBuilder{clustertemplates.UpdateOpts{Op: clustertemplates.ReplaceOp, Path: "/labels/a", Value: "c"}}).Extract()
	check(err)
	count := 1
	id, err := clusters.Create(ctx, c, clusters.CreateOpts{Name: "one", ClusterTemplateID: tpl.UUID, NodeCount: &count}).Extract()
	check(err)
	w.settled()
	x, err := clusters.Get(ctx, c, "one").Extract()
	check(err)
	if x.UUID != id || x.Status != "CREATE_COMPLETE" || x.HealthStatus != "HEALTHY" || x.Labels["a"] != "c" || x.CreatedAt.IsZero() || len(x.NodeAddresses) != 1 {
		t.Errorf("the cluster is %+v", x)
	}
	pages, err := clusters.List(c, clusters.ListOpts{Limit: 1}).AllPages(ctx)
	check(err)
	if all, err := clusters.ExtractClusters(pages); err != nil || len(all) != 1 {
		t.Errorf("there are %v, %v", all, err)
	}
	ca, err := certificates.Get(ctx, c, id).Extract()
	check(err)
	cert, err := certificates.Create(ctx, c, certificates.CreateOpts{ClusterUUID: id, CSR: request(t, "x")}).Extract()
	check(err)
	if ca.PEM == "" || cert.PEM == "" || cert.ClusterUUID != id {
		t.Errorf("certificates are %+v and %+v", ca, cert)
	}
	g, err := nodegroups.Create(ctx, c, id, nodegroups.CreateOpts{Name: "more", NodeCount: &count}).Extract()
	check(err)
	w.settled()
	g, err = nodegroups.Get(ctx, c, id, g.UUID).Extract()
	check(err)
	if g.Status != "CREATE_COMPLETE" || len(g.NodeAddresses) != 1 {
		t.Errorf("the group is %+v", g)
	}
	check(nodegroups.Delete(ctx, c, id, "more").ExtractErr())
	w.settled()
	count = 2
	_, err = clusters.Resize(ctx, c, id, clusters.ResizeOpts{NodeCount: &count}).Extract()
	check(err)
	w.settled()
	_, err = clusters.Upgrade(ctx, c, id, clusters.UpgradeOpts{ClusterTemplate: tpl.UUID}).Extract()
	check(err)
	w.settled()
	check(clusters.Delete(ctx, c, id).ExtractErr())
	w.settled()
	if _, err := clusters.Get(ctx, c, id).Extract(); !gophercloud.ResponseCodeIs(err, 404) {
		t.Errorf("after its end: %v", err)
	}
	check(clustertemplates.Delete(ctx, c, tpl.UUID).ExtractErr())
	q, err := quotas.Create(ctx, w.client(t, "admin"), quotas.CreateOpts{ProjectID: project1, Resource: "Cluster", HardLimit: 3}).Extract()
	check(err)
	if q.HardLimit != 3 || q.ProjectID != project1 {
		t.Errorf("the quota is %+v", q)
	}
	w.clean(t)
}
