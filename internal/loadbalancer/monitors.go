package loadbalancer

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) createMonitor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	raw, err := body(r, "healthmonitor")
	if err != nil {
		return nil, err
	}
	a := monitorAsk{Monitor: newMonitor(), put: raw}
	if err := read(monitorFields(), raw, inPost, &a); err != nil {
		return nil, err
	}
	found := s.lbs.By("part", a.pool)
	if len(found) != 1 || found[0].pool(a.pool) == nil {
		return nil, notFound("Pool", a.pool)
	}
	lb := found[0]
	if err := judge(r, r.Route.Policy, lb.ProjectID); err != nil {
		return nil, err
	}
	var pool *Pool
	lb, err = s.change(ctx, lb.ID, func(e *edit) error {
		ask := a // the function may run again
		if pool = e.lb.pool(ask.pool); pool == nil {
			return notFound("Pool", ask.pool)
		}
		if err := e.addMonitor(pool, &ask); err != nil {
			return err
		}
		e.touchPool(pool)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(201, view{"healthmonitor": s.stateOf(lb).monitorView(pool, pool.Monitor)}), nil
}

// addMonitor makes a pool's monitor of what was asked for.
func (e *edit) addMonitor(p *Pool, a *monitorAsk) error {
	m := a.Monitor
	if p.Monitor != nil {
		return coded(errs.Conflict, "This pool already has a health monitor")
	}
	switch m.Type {
	case "SCTP":
		return unsupported("health monitors of type %s", m.Type)
	case "UDP-CONNECT":
		if p.Protocol != "UDP" {
			return invalid("The %s type is only supported for pools of type UDP/SCTP.", m.Type)
		}
	case "PING", "HTTPS", "TLS-HELLO":
		if p.Protocol == "UDP" {
			return notForUDP(p)
		}
	}
	if err := checkHTTP(&m, a.put); err != nil {
		return err
	}
	e.born(&m.Meta)
	p.Monitor = &m
	return e.fits("healthmonitor")
}

func notForUDP(p *Pool) error {
	return invalid("The associated pool protocol is %s, so only a UDP-CONNECT/SCTP/TCP/HTTP health monitor is supported.", p.Protocol)
}

// checkHTTP holds what belongs to HTTP to the type, and gives it its defaults
// (octavia/api/v2/controllers/health_monitor.py, _validate_create_hm).
func checkHTTP(m *Monitor, given map[string]any) error {
	if m.Type != "HTTP" && m.Type != "HTTPS" {
		for _, name := range []string{"http_method", "url_path", "expected_codes"} {
			if given[name] != nil {
				return badOption(name, "health monitors of type "+m.Type)
			}
		}
	} else {
		orElse(&m.Method, "GET")
		orElse(&m.Path, "/")
		orElse(&m.Codes, "200")
	}
	if m.Domain != "" && m.HTTPVersion == "" {
		return invalid("'http_version' must be specified when 'domain_name' is provided.")
	}
	if m.Domain != "" && m.HTTPVersion == "1.0" {
		return badOption("http_version 1.0", "health monitors HTTP 1.1 domain name health check")
	}
	if m.tooFast() {
		return invalid("The request delay value %d should be larger than 3 for UDP-CONNECT health monitor type.", m.Delay)
	}
	return nil
}

// tooFast tells of checks by UDP that would come too often: each waits for what does not come.
func (m *Monitor) tooFast() bool { return m.Type == "UDP-CONNECT" && m.Delay < 3 }

func orElse(s *string, otherwise string) {
	if *s == "" {
		*s = otherwise
	}
}

func (s *Service) updateMonitor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, monitorKind)
	if err != nil {
		return nil, err
	}
	raw, err := body(r, "healthmonitor")
	if err != nil {
		return nil, err
	}
	var pool *Pool
	lb, err = s.change(ctx, lb.ID, func(e *edit) error {
		if pool = e.lb.monitored(r.Path("id")); pool == nil {
			return notFound("Health Monitor", r.Path("id"))
		}
		a := monitorAsk{Monitor: *pool.Monitor}
		if err := read(monitorFields(), raw, inPut, &a); err != nil {
			return err
		}
		if err := checkHTTP(&a.Monitor, raw); err != nil {
			return err
		}
		*pool.Monitor = a.Monitor
		e.touch(&pool.Monitor.Meta)
		e.touchPool(pool)
		pool.Monitor.Updated = e.now
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, view{"healthmonitor": s.stateOf(lb).monitorView(pool, pool.Monitor)}), nil
}

func (s *Service) deleteMonitor(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	lb, err := s.partOf(r, monitorKind)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, lb.ID, func(e *edit) error {
		p := e.lb.monitored(r.Path("id"))
		if p == nil {
			return notFound("Health Monitor", r.Path("id"))
		}
		p.Monitor = nil
		e.touchPool(p)
		return nil
	})
	return rest.Empty(204), err
}
