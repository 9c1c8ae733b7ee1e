package loadbalancer

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

// versions is the version document (octavia/api/root_controller.py). A version is a
// feature there; the last one that has come in whole here is 2.16, but for TLS.
func versions(base string) *rest.Response {
	when := []string{"2016-12-11T00:00:00Z", "2018-04-20T00:00:00Z", "2018-07-31T00:00:00Z", "2018-12-18T00:00:00Z", "2018-12-19T00:00:00Z", "2019-01-21T00:00:00Z",
		"2019-01-25T00:00:00Z", "2018-01-25T12:00:00Z", "2019-02-12T00:00:00Z", "2019-03-04T00:00:00Z", "2019-03-05T00:00:00Z", "2019-06-24T00:00:00Z",
		"2019-09-11T00:00:00Z", "2019-09-13T00:00:00Z", "2019-11-10T00:00:00Z", "2020-03-10T00:00:00Z", "2020-03-15T00:00:00Z"}
	out := []any{}
	for i, updated := range when {
		status := "SUPPORTED"
		if i == len(when)-1 {
			status = "CURRENT"
		}
		out = append(out, view{"id": rest.V(2, i).String(), "status": status, "updated": updated,
			"links": []any{view{"rel": "self", "href": base + prefix}}})
	}
	for _, v := range out {
		v := v.(view)
		v["id"] = "v" + v["id"].(string)
	}
	return rest.JSON(200, view{"versions": out})
}

func (s *Service) listProviders(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := judge(r, r.Route.Policy, r.Creds.ProjectID); err != nil {
		return nil, err
	}
	all, out := providers(), []any{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, rest.Fields(view{"name": name, "description": all[name]}, r.Query()["fields"]))
	}
	return rest.JSON(200, view{"providers": out}), nil
}

// none lists what there is nothing of.
func none(plural string) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		if err := judge(r, r.Route.Policy, r.Creds.ProjectID); err != nil {
			return nil, err
		}
		return rest.JSON(200, view{plural: []any{}, plural + "_links": []any{}}), nil
	}
}

func noFlavor(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := judge(r, r.Route.Policy, r.Creds.ProjectID); err != nil {
		return nil, err
	}
	return nil, notFound("Flavor", r.Path("id"))
}

func noZone(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if err := judge(r, r.Route.Policy, r.Creds.ProjectID); err != nil {
		return nil, err
	}
	return nil, notFound("Availability Zone", r.Path("id"))
}

func statsView(list ...nodeapi.LBTraffic) *rest.Response {
	var sum nodeapi.LBTraffic
	for _, t := range list {
		sum.BytesIn += t.BytesIn
		sum.BytesOut += t.BytesOut
		sum.Active += t.Active
		sum.Total += t.Total
		sum.Errors += t.Errors
	}
	return rest.JSON(200, view{"stats": view{"bytes_in": sum.BytesIn, "bytes_out": sum.BytesOut, "active_connections": sum.Active,
		"total_connections": sum.Total, "request_errors": sum.Errors}})
}

func (s *Service) showStats(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.balancerOf(r)
	if err != nil {
		return nil, err
	}
	return statsView(slices.Collect(maps.Values(s.trafficOf(lb.ID)))...), nil
}

func (s *Service) showListenerStats(_ context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, listenerKind)
	if err != nil {
		return nil, err
	}
	return statsView(s.trafficOf(lb.ID)[r.Path("id")]), nil
}
