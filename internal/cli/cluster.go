package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/containerinfra/v1/clusters"
	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/wait"
)

// clusterVersion is the microversion that the commands speak.
const clusterVersion = "1.11"

// clusterLook is how often a cluster is looked at that is waited for.
const clusterLook = 500 * time.Millisecond

func (a *app) cluster() *cobra.Command {
	var cloud string
	c := &cobra.Command{Use: "cluster", Short: "Make and use clusters of Kubernetes", Args: cobra.NoArgs}
	c.PersistentFlags().StringVar(&cloud, "cloud", "strata-demo", "entry of clouds.yaml whose project to use")
	list := &cobra.Command{Use: "list", Short: "List the project's clusters", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.explain(a.listClusters(cmd.Context(), cloud)) }}
	show := &cobra.Command{Use: "show CLUSTER", Short: "Show a cluster, its nodes and its health", Args: oneCluster("show"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.showCluster(cmd.Context(), cloud, args[0]))
		}}
	var keep bool
	remove := &cobra.Command{Use: "delete CLUSTER", Short: "Delete a cluster with all that runs in it", Args: oneCluster("delete"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.deleteCluster(cmd.Context(), cloud, args[0], !keep))
		}}
	remove.Flags().BoolVar(&keep, "no-wait", false, "do not wait until it is gone")
	c.AddCommand(a.clusterCreate(&cloud), list, show, a.clusterConfig(&cloud), a.clusterScale(&cloud), a.clusterUpgrade(&cloud), a.clusterMove(), a.clusterCheck(&cloud), remove)
	return c
}

func oneCluster(verb string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usageError{fmt.Errorf("name one cluster: strata cluster %s CLUSTER", verb)}
		}
		return nil
	}
}

// clusterAPI logs in to the service of clusters.
func (a *app) clusterAPI(ctx context.Context, cloud string) (*gophercloud.ServiceClient, error) {
	entry, err := a.cloud(cloud)
	if err != nil {
		return nil, err
	}
	p, err := login(ctx, entry)
	if err != nil {
		return nil, a.explain(fmt.Errorf("logging in to %s: %w", entry.Auth["auth_url"], err))
	}
	c, err := openstack.NewContainerInfraV1(p, gophercloud.EndpointOpts{Region: entry.RegionName})
	if err != nil {
		return nil, fmt.Errorf("the catalog lacks a service: %w; see strata doctor", err)
	}
	c.Microversion = clusterVersion
	return c, nil
}

func (a *app) listClusters(ctx context.Context, cloud string) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	pages, err := clusters.ListDetail(c, nil).AllPages(ctx)
	if err != nil {
		return fmt.Errorf("listing clusters: %w", err)
	}
	all, err := clusters.ExtractClusters(pages)
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(x, y clusters.Cluster) int { return strings.Compare(x.Name, y.Name) })
	t := table{head: []string{"NAME", "STATUS", "HEALTH", "NODES", "API", "VERSION"}}
	for _, x := range all {
		t.add(x.Name, x.Status, dash(x.HealthStatus), x.NodeCount, dash(x.APIAddress), dash(x.COEVersion))
	}
	return a.show(all, t)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) showCluster(ctx context.Context, cloud, name string) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	return a.printCluster(x)
}

func (a *app) printCluster(x *clusters.Cluster) error {
	t := table{}
	for _, row := range [][2]any{{"name", x.Name}, {"id", x.UUID}, {"status", x.Status}, {"why", x.StatusReason}, {"health", x.HealthStatus}, {"API", x.APIAddress}, {"version", x.COEVersion},
		{"workers", x.NodeCount}, {"addresses", strings.Join(x.NodeAddresses, ", ")}, {"created", x.CreatedAt.Local().Format(time.RFC1123)}} {
		if row[1] != "" {
			t.add(row[0], row[1])
		}
	}
	tables := []table{t}
	if len(x.HealthStatusReason) > 0 {
		h := table{head: []string{"PART", "STATE"}}
		for _, k := range slices.Sorted(maps.Keys(x.HealthStatusReason)) {
			h.add(k, x.HealthStatusReason[k])
		}
		tables = append(tables, h)
	}
	return a.show(x, tables...)
}

// awaitCluster waits until nothing goes on with a cluster. A failure is the error.
func (a *app) awaitCluster(ctx context.Context, c *gophercloud.ServiceClient, id string) (x *clusters.Cluster, err error) {
	last := ""
	err = wait.Until(ctx, "cluster "+id, clusterLook, func(ctx context.Context) (bool, error) {
		if x, err = clusters.Get(ctx, c, id).Extract(); err != nil {
			return false, err
		}
		if x.Status != last {
			last = x.Status
			a.progress("cluster %s: %s", x.Name, x.Status)
		}
		return !strings.HasSuffix(x.Status, "_IN_PROGRESS"), nil
	})
	if err == nil && strings.HasSuffix(x.Status, "_FAILED") {
		err = fmt.Errorf("cluster %s is %s: %s", x.Name, x.Status, x.StatusReason)
	}
	return x, err
}

func (a *app) deleteCluster(ctx context.Context, cloud, name string, until bool) error {
	c, err := a.clusterAPI(ctx, cloud)
	if err != nil {
		return err
	}
	x, err := clusters.Get(ctx, c, name).Extract()
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	if err := clusters.Delete(ctx, c, x.UUID).ExtractErr(); err != nil {
		return fmt.Errorf("deleting cluster %s: %w", name, err)
	}
	if !until {
		a.progress("cluster %s is being deleted", x.Name)
		return nil
	}
	err = wait.Until(ctx, "the end of cluster "+x.Name, clusterLook, func(ctx context.Context) (bool, error) {
		_, err := clusters.Get(ctx, c, x.UUID).Extract()
		if gophercloud.ResponseCodeIs(err, 404) {
			return true, nil
		}
		return false, err
	})
	if err == nil {
		a.progress("cluster %s is deleted", x.Name)
	}
	return err
}
