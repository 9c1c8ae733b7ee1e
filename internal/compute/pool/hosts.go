package pool

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

// hostRoutes are upstream's older view of the hosts, which it ended with 2.43 in
// favour of os-services and os-hypervisors (nova/api/openstack/compute/hosts.py).
func (p *Pool) hostRoutes() []rest.Route {
	const at, rule = "/os-hosts", "os_compute_api:os-hosts:"
	const word = `{"type":"string","enum":["enable","disable","Enable","Disable","ENABLE","DISABLE"]}`
	row := func(method, path, policy string, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: at + path, Policy: rule + policy, Max: rest.V(2, 42), Handle: h}
	}
	update := row("PUT", "/{host}", "update", p.noHostPower)
	update.Body = []rest.Schema{rest.SchemaOf(`{"type":"object","properties":{"status":` + word + `,"maintenance_mode":` + word + `},"minProperties":1,"additionalProperties":false}`)}
	return []rest.Route{row("GET", "", "list", p.listHosts), row("GET", "/{host}", "show", p.showHost), update,
		row("GET", "/{host}/startup", "start", p.noHostPower), row("GET", "/{host}/shutdown", "shutdown", p.noHostPower), row("GET", "/{host}/reboot", "reboot", p.noHostPower)}
}

// listHosts lists the enabled hosts, by what runs there: compute is all that does.
func (p *Pool) listHosts(_ context.Context, r *rest.Request) (*rest.Response, error) {
	zone, views := r.Query().Get("zone"), []any{}
	for _, n := range p.nodes.Infos.All() {
		if p.enabled(n.ID) && (zone == "" || zone == p.Zone(n.ID)) {
			views = append(views, map[string]string{"host_name": n.ID, "service": "compute", "zone": p.Zone(n.ID)})
		}
	}
	return rest.JSON(200, map[string]any{"hosts": views}), nil
}

func (p *Pool) namedHost(r *rest.Request) (*nodeapi.NodeInfo, error) {
	n, err := p.nodes.Infos.Get(r.Path("host"))
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("Compute host %s could not be found.", r.Path("host"))
	}
	return n, err
}

func (p *Pool) showHost(_ context.Context, r *rest.Request) (*rest.Response, error) {
	n, err := p.namedHost(r)
	if err != nil {
		return nil, err
	}
	used, u := map[string]*Server{}, p.usage(n)
	var projects []string
	for _, s := range p.servers(n.ID) {
		sum := used[s.ProjectID]
		if sum == nil {
			sum = &Server{}
			used[s.ProjectID] = sum
			projects = append(projects, s.ProjectID)
		}
		sum.VCPUs, sum.MemoryMiB, sum.DiskGiB = sum.VCPUs+s.VCPUs, sum.MemoryMiB+s.MemoryMiB, sum.DiskGiB+s.DiskGiB
	}
	list := []any{
		resource(n.ID, "(total)", u["vcpus"], u["memory_mb"], u["local_gb"]),
		resource(n.ID, "(used_now)", u["vcpus_used"], u["memory_mb_used"], u["local_gb_used"]),
		resource(n.ID, "(used_max)", u["vcpus_used"], u["memory_mb_used"], u["local_gb_used"]),
	}
	slices.Sort(projects)
	for _, id := range projects {
		list = append(list, resource(n.ID, id, used[id].VCPUs, used[id].MemoryMiB, used[id].DiskGiB))
	}
	return rest.JSON(200, map[string]any{"host": list}), nil
}

func resource(host, project string, cpu, memory, disk int) map[string]any {
	return map[string]any{"resource": map[string]any{"host": host, "project": project, "cpu": cpu, "memory_mb": memory, "disk_gb": disk}}
}

// noHostPower answers as upstream does for its driver of QEMU, which can switch no
// host; a host is disabled by os-services.
func (p *Pool) noHostPower(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := p.namedHost(r); err != nil {
		return nil, err
	}
	return nil, errs.New(errs.NotImplemented, "The requested functionality is not supported.")
}
