package cli

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/internal/region"
)

// examinePath checks the way of one port, or of all ports of a server.
func (a *app) examinePath(ctx context.Context, port, server string) (findings, error) {
	if _, ok := a.running(); !ok {
		return nil, fmt.Errorf("the cloud in %s is not running: start it with %s up --detach", a.dataDir, a.self())
	}
	ids := []string{port}
	if server != "" {
		c, err := a.connect(ctx, "strata")
		if err != nil {
			return nil, err
		}
		if ids, err = c.portsOf(ctx, server); err != nil {
			return nil, err
		}
	}
	var f findings
	for _, id := range ids {
		hops, err := region.NewAdmin(a.dataDir).Trace(ctx, id)
		if err != nil {
			return nil, err
		}
		a.progress("the way of port %s, from the server to the world", id)
		for _, h := range hops {
			f.note(h.Name, h.OK, bad, h.Detail, h.Fix)
		}
	}
	return f, nil
}

// portsOf lists the ports of a server that is given by name or id, in any project.
func (c *client) portsOf(ctx context.Context, server string) ([]string, error) {
	pages, err := servers.List(c.computeAPI, servers.ListOpts{AllTenants: true}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing servers: %w", err)
	}
	list, err := servers.ExtractServers(pages)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range list {
		if s.ID != server && s.Name != server {
			continue
		}
		ports, err := c.ports(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		for _, p := range ports {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return nil, usageError{fmt.Errorf("no server %s with a port is in any project: see openstack server list --all-projects", server)}
	}
	return ids, nil
}
