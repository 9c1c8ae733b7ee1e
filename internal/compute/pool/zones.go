package pool

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/rest"
)

func (p *Pool) zoneRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/os-availability-zone", Policy: "os_compute_api:os-availability-zone:list", Handle: p.listZones(false)},
		{Method: "GET", Path: "/os-availability-zone/detail", Policy: "os_compute_api:os-availability-zone:detail", Handle: p.listZones(true)},
	}
}

// listZones lists the zones that have hosts; those whose hosts are all disabled come last.
func (p *Pool) listZones(detail bool) rest.Handler {
	return func(context.Context, *rest.Request) (*rest.Response, error) {
		enabled, all := map[string]map[string]any{}, map[string]bool{}
		for _, n := range p.nodes.Infos.All() {
			zone := p.Zone(n.ID)
			all[zone] = true
			if !p.enabled(n.ID) {
				continue
			}
			if enabled[zone] == nil {
				enabled[zone] = map[string]any{}
			}
			enabled[zone][n.ID] = map[string]any{computeBinary: map[string]any{"available": p.Up(n.ID), "active": true, "updated_at": n.SeenAt.Format(stamp)}}
		}
		list := []any{}
		for _, zone := range slices.Sorted(maps.Keys(enabled)) {
			var hosts any
			if detail {
				hosts = enabled[zone]
			}
			list = append(list, zoneView(zone, true, hosts))
		}
		for _, zone := range slices.Sorted(maps.Keys(all)) {
			if enabled[zone] == nil {
				list = append(list, zoneView(zone, false, nil))
			}
		}
		return rest.JSON(200, map[string]any{"availabilityZoneInfo": list}), nil
	}
}

func zoneView(name string, available bool, hosts any) map[string]any {
	return map[string]any{"zoneName": name, "zoneState": map[string]bool{"available": available}, "hosts": hosts}
}
