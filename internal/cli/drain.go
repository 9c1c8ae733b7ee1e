package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/services"
	"github.com/spf13/cobra"
)

// drainReason is what openstack compute service list --long shows of a machine that is drained.
const drainReason = "drained by strata node drain"

type drainOptions struct {
	cloud    string
	parallel int
	timeout  time.Duration
}

func (a *app) drain() *cobra.Command {
	o := drainOptions{}
	c := &cobra.Command{Use: "drain NODE", Short: "Move all servers of a machine elsewhere and send it no new ones", Args: cobra.ExactArgs(1),
		Long: "Move all servers of a machine elsewhere and send it no new ones: what runs moves live, what is off moves as it lies.\n" +
			"It can be interrupted and repeated; what is under way goes on. The exit status is 1 when servers stay. strata node undrain opens the machine again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.newDrainer(cmd.Context(), args[0], &o)
			if err != nil {
				return err
			}
			return a.explain(d.run(cmd.Context()))
		}}
	c.Flags().StringVar(&o.cloud, "cloud", "strata", "entry of clouds.yaml, of an administrator")
	c.Flags().IntVar(&o.parallel, "parallel", 2, "how many servers move at one time")
	c.Flags().DurationVar(&o.timeout, "timeout", 30*time.Minute, "how long one server may take")
	return c
}

func (a *app) undrain() *cobra.Command {
	var cloud string
	c := &cobra.Command{Use: "undrain NODE", Short: "Let a machine have new servers again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.newDrainer(cmd.Context(), args[0], &drainOptions{cloud: cloud})
			if err != nil {
				return err
			}
			if err := services.Update(cmd.Context(), d.computeAPI, d.service.ID, services.UpdateOpts{Status: services.ServiceEnabled}).Err; err != nil {
				return a.explain(fmt.Errorf("enabling node %s: %w", d.node, err))
			}
			a.progress("node %s takes servers again", d.node)
			return nil
		}}
	c.Flags().StringVar(&cloud, "cloud", "strata", "entry of clouds.yaml, of an administrator")
	return c
}

// drainer empties one machine.
type drainer struct {
	*app
	*client
	o       *drainOptions
	node    string
	service services.Service
}

// drained is what became of one server.
type drained struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Status  string  `json:"status"`
	How     string  `json:"how,omitempty"` // live, cold or confirm
	Node    string  `json:"node"`          // where it is now
	Seconds float64 `json:"seconds"`
	Why     string  `json:"why,omitempty"` // it stays
}

func (a *app) newDrainer(ctx context.Context, node string, o *drainOptions) (*drainer, error) {
	c, err := a.connect(ctx, o.cloud)
	if err != nil {
		return nil, err
	}
	pages, err := services.List(c.computeAPI, services.ListOpts{Host: node, Binary: "nova-compute"}).AllPages(ctx)
	if err != nil {
		return nil, a.explain(fmt.Errorf("finding node %s: %w", node, err))
	}
	list, err := services.ExtractServices(pages)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, usageError{fmt.Errorf("there is no node %s: see strata node list", node)}
	}
	return &drainer{app: a, client: c, o: o, node: node, service: list[0]}, nil
}

func (d *drainer) run(ctx context.Context) error {
	if d.service.State != "up" {
		return fmt.Errorf("node %s is down: servers with high availability leave it by themselves, others by openstack server evacuate", d.node)
	}
	if d.service.Status != "disabled" {
		if err := services.Update(ctx, d.computeAPI, d.service.ID, services.UpdateOpts{Status: services.ServiceDisabled, DisabledReason: drainReason}).Err; err != nil {
			return fmt.Errorf("disabling node %s: %w", d.node, err)
		}
		d.progress("node %s takes no new servers", d.node)
	}
	all := []drained{}
	for {
		list, err := d.there(ctx)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(s servers.Server) bool { // what was tried already
			return slices.ContainsFunc(all, func(x drained) bool { return x.ID == s.ID })
		})
		if len(list) == 0 {
			break
		}
		all = append(all, d.moveAll(ctx, list)...)
		if ctx.Err() != nil {
			break
		}
	}
	return d.report(ctx, all)
}

// there lists what is to leave: the servers of the machine, and those that have
// left it and could go back.
func (d *drainer) there(ctx context.Context) ([]servers.Server, error) {
	pages, err := servers.List(d.computeAPI, servers.ListOpts{AllTenants: true, Host: d.node}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the servers of node %s: %w", d.node, err)
	}
	list, err := servers.ExtractServers(pages)
	if err != nil {
		return nil, err
	}
	var moves struct {
		Migrations []struct {
			Server string `json:"instance_uuid"`
		} `json:"migrations"`
	}
	_, err = d.computeAPI.Get(ctx, d.computeAPI.ServiceURL("os-migrations")+"?migration_type=migration&status=finished&source_compute="+d.node, &moves, nil)
	if err != nil {
		return nil, fmt.Errorf("listing the moves from node %s: %w", d.node, err)
	}
	for _, m := range moves.Migrations {
		s, err := servers.Get(ctx, d.computeAPI, m.Server).Extract()
		if err == nil && s.Status == "VERIFY_RESIZE" && s.Host != d.node {
			list = append(list, *s)
		}
	}
	return list, nil
}

func (d *drainer) moveAll(ctx context.Context, list []servers.Server) []drained {
	out := make([]drained, len(list))
	turns := make(chan struct{}, max(1, d.o.parallel))
	var group sync.WaitGroup
	var say sync.Mutex
	done := 0
	for i := range list {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			out[i] = d.move(ctx, &list[i])
			say.Lock()
			defer say.Unlock()
			done++
			if x := &out[i]; x.Why != "" {
				d.progress("%d/%d %s stays: %s", done, len(list), x.Name, x.Why)
			} else {
				d.progress("%d/%d %s is on %s (%s, %.1f s)", done, len(list), x.Name, x.Node, x.How, x.Seconds)
			}
		})
	}
	group.Wait()
	return out
}

func (d *drainer) report(ctx context.Context, all []drained) error {
	t, left := table{head: []string{"SERVER", "ID", "STATUS", "HOW", "NODE", "SECONDS", "WHY IT STAYS"}}, 0
	for _, x := range all {
		t.add(x.Name, x.ID, x.Status, x.How, x.Node, fmt.Sprintf("%.1f", x.Seconds), x.Why)
		if x.Why != "" {
			left++
		}
	}
	if err := d.show(all, t); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		d.progress("interrupted: what is under way goes on; strata node drain %s goes on with the rest", d.node)
		return &exitError{1}
	case left > 0:
		d.progress("%s on node %s; strata node drain %s tries again", plural(left, "server")+" stay", d.node, d.node)
		return &exitError{1}
	}
	d.progress("node %s is empty; strata node undrain %s opens it again", d.node, d.node)
	return nil
}
