package pool

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

func (p *Pool) hypervisorRoutes() []rest.Route {
	const at, rule = "/os-hypervisors", "os_compute_api:os-hypervisors:"
	page := `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"marker":{}`
	with := `"with_servers":{"type":"array","items":{"enum":["true","True","TRUE","1","on","yes","false","False","FALSE","0","off","no"]}}`
	closed := func(lo rest.Version, hi rest.Version, props string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{`+props+`},"additionalProperties":false}`)
	}
	list := []rest.Schema{rest.SchemaIn(rest.V(2, 33), rest.V(2, 52), `{"type":"object","properties":{`+page+`}}`),
		closed(rest.V(2, 53), rest.Version{}, page+`,"hypervisor_hostname_pattern":{},`+with)}
	last := rest.V(2, 87)
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "list", Query: list, Handle: p.listHypervisors(false)},
		{Method: "GET", Path: at + "/detail", Policy: rule + "list-detail", Query: list, Handle: p.listHypervisors(true)},
		{Method: "GET", Path: at + "/statistics", Policy: rule + "statistics", Max: last, Handle: p.statistics},
		{Method: "GET", Path: at + "/{id}", Policy: rule + "show", Query: []rest.Schema{closed(rest.V(2, 53), rest.Version{}, with)}, Handle: p.showHypervisor},
		{Method: "GET", Path: at + "/{id}/uptime", Policy: rule + "uptime", Max: last, Handle: p.uptime},
		{Method: "GET", Path: at + "/{id}/search", Policy: rule + "search", Max: rest.V(2, 52), Handle: p.searchHypervisors(false)},
		{Method: "GET", Path: at + "/{id}/servers", Policy: rule + "servers", Max: rest.V(2, 52), Handle: p.searchHypervisors(true)},
	}
}

// short is what every view of a hypervisor begins with.
func (p *Pool) short(r *rest.Request, n *nodeapi.NodeInfo) map[string]any {
	v := map[string]any{"id": rowID(n.ID), "hypervisor_hostname": n.ID, "state": "down", "status": "enabled"}
	if r.AtLeast(2, 53) {
		v["id"] = p.provider(n.ID)
	}
	if p.Up(n.ID) {
		v["state"] = "up"
	}
	if !p.enabled(n.ID) {
		v["status"] = "disabled"
	}
	return v
}

func (p *Pool) detailed(r *rest.Request, n *nodeapi.NodeInfo) map[string]any {
	v, st := p.short(r, n), p.state(n.ID)
	service := map[string]any{"id": rowID(n.ID), "host": n.ID, "disabled_reason": nil}
	if r.AtLeast(2, 53) {
		service["id"] = serviceID(n.ID)
	}
	if st.Disabled && st.Reason != "" {
		service["disabled_reason"] = st.Reason
	}
	v["hypervisor_type"], v["hypervisor_version"], v["host_ip"], v["service"] = n.Hypervisor, versionNumber(n.Version), n.Addr, service
	if r.AtLeast(2, 88) {
		v["uptime"] = nil
		if p.Up(n.ID) {
			v["uptime"] = uptimeText(n.BootedAt)
		}
		return v
	}
	for k, x := range p.usage(n) {
		v[k] = x
	}
	cpu := cpuInfo(n)
	if v["cpu_info"] = cpu; !r.AtLeast(2, 28) {
		text, _ := json.Marshal(cpu) // strings and numbers only
		v["cpu_info"] = string(text)
	}
	return v
}

// usage counts what the servers of the host take, from their records.
func (p *Pool) usage(n *nodeapi.NodeInfo) map[string]int {
	u := map[string]int{"vcpus": n.VCPUs, "memory_mb": n.MemoryMiB, "local_gb": n.DiskGiB, "vcpus_used": 0, "memory_mb_used": 0, "local_gb_used": 0, "current_workload": 0, "running_vms": 0}
	for _, s := range p.servers(n.ID) {
		u["vcpus_used"] += s.VCPUs
		u["memory_mb_used"] += s.MemoryMiB
		u["local_gb_used"] += s.DiskGiB
		if s.Working {
			u["current_workload"]++
		}
		if s.Running {
			u["running_vms"]++
		}
	}
	u["free_ram_mb"], u["free_disk_gb"] = u["memory_mb"]-u["memory_mb_used"], u["local_gb"]-u["local_gb_used"]
	u["disk_available_least"] = u["free_disk_gb"]
	return u
}

func cpuInfo(n *nodeapi.NodeInfo) map[string]any {
	flags := n.CPUFlags
	if flags == nil {
		flags = []string{}
	}
	return map[string]any{"arch": n.CPUArch, "model": n.CPUModel, "vendor": "", "features": flags,
		"topology": map[string]int{"cells": 1, "sockets": 1, "cores": n.VCPUs, "threads": 1}}
}

// versionNumber makes 7002015 of 7.2.15, as libvirt does.
func versionNumber(text string) int {
	n := 0
	parts := strings.SplitN(text, ".", 3)
	for i := range 3 {
		x := 0
		if i < len(parts) {
			x, _ = strconv.Atoi(parts[i])
		}
		n = n*1000 + x
	}
	return n
}

// uptimeText says since when the host runs, in the words of uptime(1).
func uptimeText(booted time.Time) string {
	up := time.Since(booted)
	days, rest := int(up.Hours())/24, up%(24*time.Hour)
	text := fmt.Sprintf("%d:%02d", int(rest.Hours()), int(rest.Minutes())%60)
	if days > 0 {
		text = fmt.Sprintf("%d days, %s", days, text)
	}
	return fmt.Sprintf(" %s up %s", time.Now().UTC().Format("15:04:05"), text)
}

func (p *Pool) addServers(r *rest.Request, n *nodeapi.NodeInfo, v map[string]any) {
	list := []any{}
	for _, s := range p.servers(n.ID) {
		list = append(list, map[string]string{"name": s.Name, "uuid": s.ID})
	}
	if len(list) > 0 || r.AtLeast(2, 75) {
		v["servers"] = list
	}
}

func (p *Pool) listHypervisors(detail bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		list, more, err := p.page(r)
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, n := range list {
			v := p.short(r, n)
			if detail {
				v = p.detailed(r, n)
			}
			if r.AtLeast(2, 53) && isTrue(r.Query().Get("with_servers")) {
				p.addServers(r, n, v)
			}
			views[i] = v
		}
		body := map[string]any{"hypervisors": views}
		if more {
			path := "/compute/v2.1/os-hypervisors"
			if detail {
				path += "/detail"
			}
			last := views[len(views)-1].(map[string]any)["id"]
			body["hypervisors_links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), path, r.Query(), fmt.Sprint(last))}}
		}
		return rest.JSON(200, body), nil
	}
}

// page cuts the list by limit and marker from 2.33 on, or by pattern from 2.53 on.
func (p *Pool) page(r *rest.Request) (list []*nodeapi.NodeInfo, more bool, err error) {
	q := r.Query()
	all := p.nodes.Infos.All()
	if r.AtLeast(2, 53) && q.Has("hypervisor_hostname_pattern") {
		if q.Has("limit") || q.Has("marker") {
			return nil, false, errs.Invalidf("Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.")
		}
		list, err = p.matching(q.Get("hypervisor_hostname_pattern"))
		return list, false, err
	}
	if !r.AtLeast(2, 33) {
		return all, false, nil
	}
	page, err := rest.PageOf(q, 1000)
	if err != nil {
		return nil, false, err
	}
	page.Sorts = nil
	return rest.Paginate(all, page, func(n *nodeapi.NodeInfo) string {
		if r.AtLeast(2, 53) {
			return p.provider(n.ID)
		}
		return strconv.Itoa(rowID(n.ID))
	}, func(n *nodeapi.NodeInfo, _ string) (string, bool) { return n.ID, true })
}

func (p *Pool) matching(pattern string) ([]*nodeapi.NodeInfo, error) {
	var out []*nodeapi.NodeInfo
	for _, n := range p.nodes.Infos.All() {
		if strings.Contains(n.ID, pattern) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, errs.NotFoundf("No hypervisor matching '%s' could be found.", pattern)
	}
	return out, nil
}

const noHypervisor = "Hypervisor with ID '%s' could not be found."

func (p *Pool) showHypervisor(_ context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := p.hostOf(r, rest.V(2, 53), p.provider, noHypervisor)
	if err != nil {
		return nil, err
	}
	v := p.detailed(r, n)
	if r.AtLeast(2, 53) && isTrue(r.Query().Get("with_servers")) {
		p.addServers(r, n, v)
	}
	return rest.JSON(200, map[string]any{"hypervisor": v}), nil
}

func (p *Pool) uptime(_ context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := p.hostOf(r, rest.V(2, 53), p.provider, noHypervisor)
	if err != nil {
		return nil, err
	}
	if !p.Up(n.ID) {
		return nil, errs.Invalidf("Compute service of %s is unavailable at this time.", n.ID)
	}
	v := p.short(r, n)
	v["uptime"] = uptimeText(n.BootedAt)
	return rest.JSON(200, map[string]any{"hypervisor": v}), nil
}

func (p *Pool) searchHypervisors(servers bool) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		list, err := p.matching(r.Path("id"))
		if err != nil {
			return nil, err
		}
		views := make([]any, len(list))
		for i, n := range list {
			v := p.short(r, n)
			if servers {
				p.addServers(r, n, v)
			}
			views[i] = v
		}
		return rest.JSON(200, map[string]any{"hypervisors": views}), nil
	}
}

// statistics adds up the enabled hosts.
func (p *Pool) statistics(context.Context, *rest.Request) (*rest.Response, error) {
	sum := map[string]int{"count": 0, "vcpus": 0, "memory_mb": 0, "local_gb": 0, "vcpus_used": 0, "memory_mb_used": 0, "local_gb_used": 0,
		"current_workload": 0, "running_vms": 0, "free_ram_mb": 0, "free_disk_gb": 0, "disk_available_least": 0}
	for _, n := range p.nodes.Infos.All() {
		if !p.enabled(n.ID) {
			continue
		}
		sum["count"]++
		for k, v := range p.usage(n) {
			sum[k] += v
		}
	}
	return rest.JSON(200, map[string]any{"hypervisor_statistics": sum}), nil
}
