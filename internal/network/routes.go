package network

import (
	"context"

	"github.com/strata-cloud/strata/internal/rest"
)

// prefix is where the API hangs.
const prefix = "/network/v2.0"

// API is the network API's table.
func (s *Service) API() *rest.API {
	return &rest.API{Name: "network", Prefix: prefix, Family: rest.NetworkFaults(), TargetPolicy: true, Discovery: s.discovery(), Routes: s.routes()}
}

func (s *Service) routes() []rest.Route {
	var out []rest.Route
	for _, t := range [][]rest.Route{
		s.network.routes(), s.network.tagRoutes(),
		s.subnet.routes(), s.subnet.tagRoutes(),
		s.port.routes(), s.port.tagRoutes(),
		s.router.routes(), s.router.tagRoutes(), s.interfaceRoutes(),
		s.fip.routes(), s.fip.tagRoutes(),
		s.groupRoutes(), s.group.tagRoutes(),
		s.rule.routes(), s.rule.tagRoutes(),
		s.pool.routes(), s.pool.tagRoutes(),
		s.scope.routes(),
		s.rbac.routes(),
		s.judged(s.quotaRoutes()), s.judged(s.extensionRoutes()), s.agentRoutes(), s.judged(s.availabilityRoutes()),
	} {
		out = append(out, t...)
	}
	return out
}

// judged holds a route that is not about one record to its rule.
func (s *Service) judged(rows []rest.Route) []rest.Route {
	for i, row := range rows {
		rows[i].Handle = func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			if err := s.look(r).enforce(row.Policy, r.Own()); err != nil {
				return nil, err
			}
			return row.Handle(ctx, r)
		}
	}
	return rows
}
