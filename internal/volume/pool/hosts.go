package pool

import (
	"context"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Routes are this package's part of the API.
func (s *Pools) Routes() []rest.Route {
	one := func(more string) []rest.Schema {
		return []rest.Schema{rest.SchemaOf(wire.Object(`"binary":{"type":["string","null"],"maxLength":255},"service":{"type":["string","null"],"maxLength":255},"host":{"type":["string","null"],"minLength":1,"maxLength":255},"cluster":{"type":["string","null"]}`+more, "", "false"))}
	}
	freeze := []rest.Schema{rest.SchemaOf(wire.Object(`"host":{"type":["string","null"],"minLength":1,"maxLength":255},"cluster":{"type":["string","null"]}`, "", "false"))}
	const services = "volume_extension:services:"
	return []rest.Route{
		{Method: "GET", Path: "/os-services", Policy: services + "index", Handle: s.listServices},
		{Method: "PUT", Path: "/os-services/enable", Policy: services + "update", Body: one(""), Handle: s.switchService(true, false)},
		{Method: "PUT", Path: "/os-services/disable", Policy: services + "update", Body: one(""), Handle: s.switchService(false, false)},
		{Method: "PUT", Path: "/os-services/disable-log-reason", Policy: services + "update", Body: one(`,"disabled_reason":{"type":"string","minLength":1,"maxLength":255}`), Handle: s.switchService(false, true)},
		{Method: "PUT", Path: "/os-services/freeze", Policy: services + "update", Body: freeze, Handle: s.freezeHost(false)},
		{Method: "PUT", Path: "/os-services/thaw", Policy: services + "update", Body: freeze, Handle: s.freezeHost(true)},
		{Method: "GET", Path: "/scheduler-stats/get_pools", Policy: "scheduler_extension:scheduler_stats:get_pools", Handle: s.listPools},
		{Method: "GET", Path: "/capabilities/{host}", Policy: "volume_extension:capabilities", Handle: s.capabilities},
		{Method: "GET", Path: "/os-hosts", Policy: "volume_extension:hosts", Handle: s.listHosts},
		{Method: "GET", Path: "/os-hosts/{host}", Policy: "volume_extension:hosts", Handle: s.showHost},
		{Method: "GET", Path: "/os-availability-zone", Policy: "volume:availability_zone_list", Handle: s.zones},
	}
}

func (s *Pools) listPools(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	detail, err := wire.Flag("detail", r.Query().Get("detail"))
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, p := range s.All(ctx) {
		if n := r.Query().Get("name"); n != "" && r.AtLeast(3, 28) && n != p.Name() {
			continue
		}
		v := map[string]any{"name": p.Name()}
		if detail {
			v["capabilities"] = p.view()
		}
		out = append(out, v)
	}
	return rest.JSON(200, map[string]any{"pools": out}), nil
}

// view is what a pool can do and has room for (cinder/api/views/scheduler_stats.py).
func (p Place) view() map[string]any {
	return map[string]any{"volume_backend_name": p.backendName(), "vendor_name": "Strata", "driver_version": "1.0", "storage_protocol": p.Driver, "pool_name": p.Pool.Name,
		"total_capacity_gb": p.TotalGiB, "free_capacity_gb": p.FreeGiB, "allocated_capacity_gb": p.Provisioned, "provisioned_capacity_gb": p.Provisioned,
		"reserved_percentage": 0, "max_over_subscription_ratio": "20.0", "thin_provisioning_support": p.Thin, "thick_provisioning_support": !p.Thin,
		"multiattach": p.Multiattach, "QoS_support": true, "backend_state": "up", "location_info": p.Name(), "online_extend_support": true,
		"timestamp": wire.Now().Format("2006-01-02T15:04:05.000000"), "filter_function": nil, "goodness_function": nil}
}

func (s *Pools) capabilities(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	host := r.Path("host")
	for _, p := range s.All(ctx) {
		if host != p.backend() && host != p.Name() {
			continue
		}
		return rest.JSON(200, map[string]any{"namespace": "OS::Storage::Capabilities::" + p.backend(), "vendor_name": "Strata", "volume_backend_name": p.backendName(),
			"pool_name": p.Pool.Name, "driver_version": "1.0", "storage_protocol": p.Driver, "display_name": p.Driver, "description": "Volumes kept by the node " + p.Node,
			"visibility": "public", "replication_targets": []any{}, "properties": map[string]any{
				"thin_provisioning": property("Thin Provisioning", "Sets thin provisioning."), "qos": property("QoS", "Enables QoS."),
				"compression": property("Compression", "Enables compression."), "replication_enabled": property("Replication", "Enables replication.")}}), nil
	}
	return nil, errs.NotFoundf("Service %s could not be found on host %s.", binary, host)
}

func property(title, text string) map[string]string {
	return map[string]string{"title": title, "description": text, "type": "boolean"}
}

func (s *Pools) listHosts(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	out := []any{}
	for _, v := range s.services(ctx) {
		status, state := "unavailable", "enabled"
		if v.Up {
			status = "available"
		}
		if _, err := s.disabled.Get(v.Binary + "/" + v.Host); err == nil {
			state = "disabled"
		}
		if z := r.Query().Get("zone"); z != "" && z != block.Zone {
			continue
		}
		out = append(out, map[string]any{"host_name": v.Host, "service": v.Binary, "zone": block.Zone, "service-status": status, "service-state": state, "last-update": wire.Stamp(v.Updated)})
	}
	return rest.JSON(200, map[string]any{"hosts": out}), nil
}

// showHost sums up what projects have on a host (cinder/api/contrib/hosts.py).
func (s *Pools) showHost(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	host := r.Path("host")
	known := false
	for _, v := range s.services(ctx) {
		known = known || v.Host == host
	}
	if !known {
		return nil, errs.NotFoundf("Host %s could not be found.", host)
	}
	type sum struct{ volumes, gib, snapshots, snapGiB int }
	total, by := sum{}, map[string]*sum{}
	for _, v := range s.core.Volumes.By("node", strings.Split(host, "@")[0]) {
		if h := v.Host(); h != host && !strings.HasPrefix(h, host+"#") && !strings.HasPrefix(h, host+"@") {
			continue
		}
		p := by[v.ProjectID]
		if p == nil {
			p = &sum{}
			by[v.ProjectID] = p
		}
		for _, x := range []*sum{&total, p} {
			x.volumes, x.gib = x.volumes+1, x.gib+v.SizeGiB
			for _, snap := range s.core.Snapshots.By("volume", v.ID) {
				x.snapshots, x.snapGiB = x.snapshots+1, x.snapGiB+snap.SizeGiB
			}
		}
	}
	row := func(project string, x sum) any {
		return map[string]any{"resource": map[string]any{"host": host, "project": project, "volume_count": strconv.Itoa(x.volumes), "total_volume_gb": strconv.Itoa(x.gib),
			"snapshot_count": strconv.Itoa(x.snapshots), "total_snapshot_gb": strconv.Itoa(x.snapGiB)}}
	}
	out := []any{row("(total)", total)}
	for p, x := range by {
		out = append(out, row(p, *x))
	}
	return rest.JSON(200, map[string]any{"host": out}), nil
}

func (s *Pools) zones(context.Context, *rest.Request) (*rest.Response, error) {
	return rest.JSON(200, map[string]any{"availabilityZoneInfo": []any{map[string]any{"zoneName": block.Zone, "zoneState": map[string]bool{"available": true}}}}), nil
}
