package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/nodegroups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/kubeapi"
)

func (a *app) clusterCheck(cloud *string) *cobra.Command {
	return &cobra.Command{Use: "check CLUSTER", Short: "Find what is wrong with a cluster", Args: oneCluster("check"),
		Long: "Look at a cluster from outside and inside: its control plane, certificates, workers, add-ons, pods, webhooks, quotas. Everything that is not right comes with why and what to do. " +
			"The exit status is 1 when something failed. Nothing is changed.",
		Example: "  strata cluster check one\n  strata cluster check one --output json",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.examineCluster(cmd.Context(), *cloud, args[0])
			if err != nil {
				return a.explain(err)
			}
			return a.showFindings(f)
		}}
}

// checkLimit bounds all of it.
const checkLimit = 2 * time.Minute

// clusterChecks are the checks of one cluster.
type clusterChecks struct {
	findings
	a       *app
	cluster *clusters.Cluster
	groups  []nodegroups.NodeGroup
	access  *access
	api     *kubeapi.Client

	nodes  []checkedNode
	pods   []checkedPod
	events map[string][]checkedEvent // of pods, by namespace/name
}

func (a *app) examineCluster(ctx context.Context, cloud, name string) (findings, error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return nil, err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	k := &clusterChecks{a: a, cluster: x}
	k.record()
	if pages, err := nodegroups.List(c, x.UUID, nil).AllPages(ctx); err == nil {
		brief, _ := nodegroups.ExtractNodeGroups(pages) // said below, as there are none then
		for _, g := range brief {
			if full, err := nodegroups.Get(ctx, c, x.UUID, g.UUID).Extract(); err == nil {
				k.groups = append(k.groups, *full)
			}
		}
	}
	k.links()
	k.network(ctx, c)
	if x.APIAddress == "" {
		return k.findings, nil
	}
	if k.access, err = a.clusterAccess(ctx, cloud, name); err != nil {
		k.note("access", false, bad, err.Error(), "have the one who made the cluster run this")
		return k.findings, nil
	}
	if k.controlPlane(ctx) && k.enter(ctx, cloud) {
		defer k.api.Close()
		k.inside(ctx)
	}
	return k.findings, nil
}

// record is what the region says of the cluster.
func (k *clusterChecks) record() {
	x := k.cluster
	failed := strings.HasSuffix(x.Status, "FAILED")
	fix := "strata cluster scale " + x.Name + " NODES tries again; strata cluster delete and create begin anew"
	if x.Status == "CREATE_FAILED" {
		fix = "strata cluster delete " + x.Name + ", mend what is said, and create it again"
	}
	k.note("record", !failed, bad, strings.TrimSpace(x.Status+" "+x.StatusReason), fix)
}

// links tells of workers that the region does not reach, or whose programs do not run.
func (k *clusterChecks) links() {
	for key, v := range k.cluster.HealthStatusReason {
		node, what, ok := strings.Cut(key, ".")
		switch {
		case ok && what == "Link":
			k.note("worker "+node+": link", false, bad, "the region does not hear of the machine", "look whether it is up and reaches the control members: strata status there, strata up --detach starts it")
		case ok && what == "Fault":
			k.note("worker "+node+": programs", false, bad, fmt.Sprint(v), "mend what is said on "+node+"; its agent tries again every few seconds")
		}
	}
}

// network looks at the project's quota of ports, of which each pod takes one, and at the nodes'.
func (k *clusterChecks) network(ctx context.Context, c *gophercloud.ServiceClient) {
	n, err := openstack.NewNetworkV2(c.ProviderClient, gophercloud.EndpointOpts{})
	if err != nil {
		k.note("network", false, warn, err.Error(), "strata doctor")
		return
	}
	if q, err := quotas.GetDetail(ctx, n, k.cluster.ProjectID).Extract(); err == nil && q.Port.Limit >= 0 {
		k.note("quota of ports", q.Port.Used < q.Port.Limit, bad, fmt.Sprintf("%d of %d used; each pod and each worker takes one", q.Port.Used, q.Port.Limit),
			"openstack quota set --ports NUMBER PROJECT (an administrator's), or delete what is not needed")
	}
	for _, x := range []struct{ owner, lost string }{
		{"container-infra:node", "pods of that worker have no network"},
		{"container-infra:gate", "the API reaches no pods, and so no webhooks"},
	} {
		pages, err := ports.List(n, ports.ListOpts{DeviceID: k.cluster.UUID, DeviceOwner: x.owner}).AllPages(ctx)
		if err != nil {
			return // who may see the cluster may not see its network
		}
		list, _ := ports.ExtractPorts(pages)
		for _, p := range list {
			if p.Status != "ACTIVE" {
				k.note("network port "+p.Name, false, bad, "it is "+p.Status+": "+x.lost, "strata doctor --port "+p.ID+" goes its way")
			}
		}
	}
}

// Lives of certificates that are told of.
const (
	lifeBad  = 7 * 24 * time.Hour
	lifeWarn = 60 * 24 * time.Hour
)

// controlPlane reaches the API, and looks at its certificates.
func (k *clusterChecks) controlPlane(ctx context.Context) bool {
	at, err := url.Parse(k.access.url)
	if err != nil {
		k.note("control plane", false, bad, err.Error(), "strata cluster show "+k.cluster.Name)
		return false
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(k.access.ca))
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(dial, "tcp", at.Host)
	if err != nil {
		why := err.Error()
		if reason, ok := k.cluster.HealthStatusReason["api"]; ok && reason != "ok" {
			why += "; its machine says: " + fmt.Sprint(reason)
		}
		k.note("control plane", false, bad, why, "look on the control member at "+at.Hostname()+": strata status, and kube/"+k.cluster.UUID+"/control/*/log in its directory; if that machine is lost, strata cluster move "+k.cluster.Name+" --copy on another member")
		return false
	}
	defer conn.Close()
	k.note("control plane", true, bad, "it answers at "+at.Host, "")
	state := conn.(*tls.Conn).ConnectionState()
	k.life("certificate of the API", state.PeerCertificates[0].NotAfter, "it is made anew by the control member's agent: strata status there, and strata up --detach if it does not run")
	if block, _ := pem.Decode([]byte(k.access.ca)); block != nil {
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil {
			k.life("the cluster's authority", ca.NotAfter, "make a new cluster, and move there")
		}
	}
	return true
}

func (k *clusterChecks) life(what string, end time.Time, fix string) {
	left := time.Until(end)
	verdict := warn
	if left < lifeBad {
		verdict = bad
	}
	k.note(what, left > lifeWarn, verdict, fmt.Sprintf("good until %s", end.Format(time.DateOnly)), fix)
}

// enter makes a client, and asks whether the API is ready.
func (k *clusterChecks) enter(ctx context.Context, cloud string) bool {
	text, err := k.a.kubeconfig(ctx, cloud, k.cluster.UUID)
	if err == nil {
		var cfg kubeapi.Config
		if cfg, err = kubeapi.FromKubeconfig([]byte(text)); err == nil {
			k.api, err = kubeapi.New(cfg)
		}
	}
	if err == nil {
		err = k.api.Read(ctx, "/readyz?verbose", nil)
	}
	if err == nil {
		k.note("API and etcd", true, bad, "ready", "")
		return true
	}
	fix := "kube/" + k.cluster.UUID + "/control/*/log on the control member tells more; its agent starts what has ended"
	if strings.Contains(err.Error(), "Unauthorized") {
		fix = "the control member's agent judges tokens: strata status there; strata cluster kubeconfig --admin does without"
	}
	k.note("API and etcd", false, bad, notReady(err.Error()), fix)
	return false
}

// notReady is what of a list of checks failed.
func notReady(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "[-]") {
			out = append(out, strings.TrimPrefix(line, "[-]"))
		}
	}
	if len(out) == 0 {
		return text
	}
	return strings.Join(out, "; ")
}
