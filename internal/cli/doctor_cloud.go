package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"

	"github.com/strata-cloud/strata/internal/region"
)

// cloud checks the running cloud: that it answers, and that its parts agree.
func (f *findings) cloud(ctx context.Context, a *app) {
	s, err := region.NewAdmin(a.dataDir).Status(ctx)
	if err != nil {
		f.note("process", false, bad, err.Error(), "see "+a.path("strata.log")+"; restarting is harmless: servers keep running")
		return
	}
	f.note("process", true, bad, fmt.Sprintf("pid %d, version %s, %s", s.PID, s.Version, bytesText(s.PSS)), "")
	f.note("versions", s.Version == Version, warn, fmt.Sprintf("this program is %s, the running one %s", Version, s.Version), "restart the cloud with this program: strata down, then strata up --detach")
	f.note("store", len(s.Store.Alarms) == 0 && (s.Store.Quota == 0 || s.Store.InUse*10 < s.Store.Quota*6), bad,
		fmt.Sprintf("%s in use of %s%s", bytesText(s.Store.InUse), bytesText(s.Store.Quota), strings.Join(append([]string{""}, s.Store.Alarms...), ", ")),
		"remove what is not needed (finished servers, old images' records), and make a backup now: strata backup FILE")
	for _, n := range s.Nodes {
		f.note("node "+n.Name, n.Connected, bad, map[bool]string{true: "connected", false: "away"}[n.Connected], "start strata on that machine; its servers keep running meanwhile")
	}
	start := time.Now()
	c, err := a.connect(ctx, "strata")
	if err != nil {
		f.note("APIs", false, bad, err.Error(), "check that the passwords in clouds.yaml are those of the cloud")
		return
	}
	f.note("APIs", true, bad, fmt.Sprintf("%s, log-in in %s", s.URL, took(start)), "")
	f.ledgers(ctx, c)
}

// ledgers compares what is counted with what there is. What is being made or
// removed right now differs for a moment, so only what two looks both show counts.
func (f *findings) ledgers(ctx context.Context, c *client) {
	first, err := c.disagreements(ctx)
	if err == nil && len(first) > 0 {
		var second []string
		second, err = c.disagreements(ctx)
		first = slices.DeleteFunc(first, func(x string) bool { return !slices.Contains(second, x) })
	}
	if err != nil {
		f.note("ledgers", false, bad, err.Error(), "see the cloud's log")
		return
	}
	for _, d := range first {
		f.note("ledgers", false, bad, d, "please report this with the cloud's log; deleting the object named frees what it holds")
	}
	if len(first) == 0 {
		f.note("ledgers", true, bad, "allocations and ports equal the servers that there are", "")
	}
}

// disagreements lists what does not fit together.
func (c *client) disagreements(ctx context.Context) ([]string, error) {
	allocated, err := c.allocations(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := c.devices(ctx)
	if err != nil {
		return nil, err
	}
	pages, err := servers.List(c.computeAPI, servers.ListOpts{AllTenants: true}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing servers: %w", err)
	}
	list, err := servers.ExtractServers(pages)
	if err != nil {
		return nil, err
	}
	there := map[string]string{}
	for _, s := range list {
		there[s.ID] = s.Status
	}
	var out []string
	for id, provider := range allocated {
		if there[id] == "" {
			out = append(out, fmt.Sprintf("allocation on %s of %s, which is no server", provider, id))
		}
	}
	for id, port := range devices {
		if there[id] == "" {
			out = append(out, fmt.Sprintf("port %s of %s, which is no server", port, id))
		}
	}
	for id, status := range there {
		if allocated[id] == "" && (status == "ACTIVE" || status == "SHUTOFF" || status == "PAUSED" || status == "SUSPENDED") {
			out = append(out, fmt.Sprintf("server %s is %s and has no allocation", id, status))
		}
	}
	slices.Sort(out)
	return out, nil
}

// allocations are the providers by consumer.
func (c *client) allocations(ctx context.Context) (map[string]string, error) {
	pages, err := resourceproviders.List(c.placementAPI, resourceproviders.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing resource providers: %w", err)
	}
	providers, err := resourceproviders.ExtractResourceProviders(pages)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, p := range providers {
		got, err := resourceproviders.GetAllocations(ctx, c.placementAPI, p.UUID).Extract()
		if err != nil {
			return nil, fmt.Errorf("reading the allocations of %s: %w", p.Name, err)
		}
		for consumer := range got.Allocations {
			out[consumer] = p.Name
		}
	}
	return out, nil
}

// devices are the ports of servers, by server.
func (c *client) devices(ctx context.Context) (map[string]string, error) {
	pages, err := ports.List(c.networkAPI, ports.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing ports: %w", err)
	}
	list, err := ports.ExtractPorts(pages)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, p := range list {
		if strings.HasPrefix(p.DeviceOwner, "compute:") {
			out[p.DeviceID] = p.ID
		}
	}
	return out, nil
}
