package cli

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clustertemplates"
	"github.com/spf13/cobra"
)

// The templates that a project is given for clusters that name none: of machines of the
// pool, and of servers.
const (
	metalTemplate   = "strata-metal"
	serversTemplate = "strata-servers"
)

// ipv6Label is the label of clusters that have IPv6.
const ipv6Label = "ipv6_enabled"

// clusterOptions are what a new cluster is to be.
type clusterOptions struct {
	nodes            int
	servers          bool
	flavor, template string
	labels           map[string]string
	ipv6             bool
	minutes          int
	noWait           bool
}

func (a *app) clusterCreate(cloud *string) *cobra.Command {
	var o clusterOptions
	c := &cobra.Command{Use: "create NAME", Short: "Make a cluster of Kubernetes on the pool's machines, or on servers", Args: oneCluster("create"),
		Example: "  strata cluster create one --nodes 2\n  strata cluster kubeconfig one > one.conf\n  kubectl --kubeconfig one.conf get nodes",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.createCluster(cmd.Context(), *cloud, args[0], o))
		}}
	c.Flags().IntVar(&o.nodes, "nodes", 1, "how many machines of the pool, or servers, work for it")
	c.Flags().BoolVar(&o.servers, "servers", false, "have servers of the project work for it (strata image build kube-worker makes their image), and not machines of the pool")
	c.Flags().StringVar(&o.flavor, "flavor", "", "what it takes of each machine (default: 2 VCPUs and 2 GiB), or the flavor of its servers (default: the smallest with 2 GiB)")
	c.Flags().StringVar(&o.template, "template", "", "cluster template to make it from (default: "+metalTemplate+", or with --servers "+serversTemplate+", which is made when it is not there)")
	c.Flags().StringToStringVar(&o.labels, "label", nil, "labels, such as service_cluster_ip_range=10.254.0.0/16")
	c.Flags().BoolVar(&o.ipv6, "ipv6", false, "have pods and services have IPv6 addresses besides those of IPv4")
	c.Flags().IntVar(&o.minutes, "timeout", 60, "minutes until a cluster that is not ready is given up; 0: never")
	c.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait until it is ready")
	return c
}

func (a *app) createCluster(ctx context.Context, cloud, name string, o clusterOptions) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	if o.template != "" && o.servers {
		return usageError{fmt.Errorf("a template says itself whether servers work for its clusters: name it, or say --servers")}
	}
	if o.template == "" {
		t := bareTemplate{metalTemplate, "bm"}
		if o.servers {
			t = bareTemplate{serversTemplate, "vm"}
		}
		if o.template, err = ensureTemplate(ctx, c, t); err != nil {
			return err
		}
	}
	if o.ipv6 {
		o.labels = maps.Clone(o.labels)
		if o.labels == nil {
			o.labels = map[string]string{}
		}
		o.labels[ipv6Label] = "true"
	}
	merge := true
	id, err := clusters.Create(ctx, c, clusters.CreateOpts{Name: name, ClusterTemplateID: o.template, NodeCount: &o.nodes, FlavorID: o.flavor, Labels: o.labels, MergeLabels: &merge, CreateTimeout: &o.minutes}).Extract()
	if err != nil {
		return fmt.Errorf("making cluster %s: %w", name, err)
	}
	return a.follow(ctx, c, id, o.noWait)
}

// follow shows a cluster when it is ready, or as it is.
func (a *app) follow(ctx context.Context, c *gophercloud.ServiceClient, id string, noWait bool) error {
	if noWait {
		x, err := clusters.Get(ctx, c, id).Extract()
		if err != nil {
			return err
		}
		return a.printCluster(x)
	}
	x, err := a.awaitCluster(ctx, c, id)
	if err != nil {
		return err
	}
	return a.printCluster(x)
}

// bareTemplate is a template without an image, which the library demands: machines of the
// pool have no use for one, and for servers the region chooses.
type bareTemplate struct{ name, serverType string }

// ToClusterCreateMap implements clustertemplates.CreateOptsBuilder.
func (t bareTemplate) ToClusterCreateMap() (map[string]any, error) {
	return map[string]any{"name": t.name, "coe": "kubernetes", "server_type": t.serverType}, nil
}

// ensureTemplate gives the template for clusters that name none.
func ensureTemplate(ctx context.Context, c *gophercloud.ServiceClient, want bareTemplate) (id string, err error) {
	t, err := clustertemplates.Get(ctx, c, want.name).Extract()
	if gophercloud.ResponseCodeIs(err, 404) {
		t, err = clustertemplates.Create(ctx, c, want).Extract()
	}
	if err != nil {
		return "", fmt.Errorf("cluster template %s: %w", want.name, err)
	}
	return t.UUID, nil
}

func (a *app) clusterScale(cloud *string) *cobra.Command {
	var noWait bool
	var group string
	c := &cobra.Command{Use: "scale CLUSTER NODES", Short: "Change how many machines work for a cluster",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				if n, err := strconv.Atoi(args[1]); err == nil && n >= 0 {
					return nil
				}
			}
			return usageError{fmt.Errorf("name a cluster and a number: strata cluster scale CLUSTER NODES")}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usageError{err}
			}
			return a.explain(a.scaleCluster(cmd.Context(), *cloud, args[0], clusters.ResizeOpts{NodeCount: &n, NodeGroup: group}, noWait))
		}}
	c.Flags().StringVar(&group, "group", "", "the node group (default: default-worker)")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is so")
	return c
}

func (a *app) scaleCluster(ctx context.Context, cloud, name string, o clusters.ResizeOpts, noWait bool) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	id, err := clusters.Resize(ctx, c, name, o).Extract()
	if err != nil {
		return fmt.Errorf("scaling cluster %s: %w", name, err)
	}
	return a.follow(ctx, c, id, noWait)
}

func (a *app) clusterUpgrade(cloud *string) *cobra.Command {
	var noWait bool
	batch := 1
	c := &cobra.Command{Use: "upgrade CLUSTER", Short: "Bring a cluster to the version of Kubernetes that is installed", Args: oneCluster("upgrade"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.upgradeCluster(cmd.Context(), *cloud, args[0], batch, noWait))
		}}
	c.Flags().IntVar(&batch, "batch", batch, "how many workers at a time")
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is so")
	return c
}

func (a *app) upgradeCluster(ctx context.Context, cloud, name string, batch int, noWait bool) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	id, err := clusters.Upgrade(ctx, c, x.UUID, clusters.UpgradeOpts{ClusterTemplate: x.ClusterTemplateID, MaxBatchSize: &batch}).Extract()
	if err != nil {
		return fmt.Errorf("upgrading cluster %s: %w", name, err)
	}
	return a.follow(ctx, c, id, noWait)
}
