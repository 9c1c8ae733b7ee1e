package simulate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// made is a server that a client made.
type made struct {
	id      string
	request string    // that made it
	in      *tenant   // its project
	posted  time.Time // before the request
	told    time.Time // its node knew
	running time.Time // the control plane knew that its node runs it
	fault   error
}

// Bounds on waiting for one server, and how often its record is asked meanwhile.
const (
	serverTimeout = 5 * time.Minute
	askEvery      = 10 * time.Second
)

// clients runs fn for 0 to n-1 on several clients and tells how far they are.
func clients(ctx context.Context, what string, n, parallel int, progress func(string, ...any), fn func(ctx context.Context, i int)) {
	var next, done atomic.Int64
	var group sync.WaitGroup
	for range min(parallel, n) {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				fn(ctx, i)
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() { group.Wait(); close(finished) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-finished:
			return
		case <-tick.C:
			now := done.Load()
			progress("%s: %d of %d, %.0f/s", what, now, n, float64(now-last)/progressEvery.Seconds())
			last = now
		}
	}
}

// progressEvery is how often long work says how far it is.
const progressEvery = 5 * time.Second

// create makes servers. Each client makes one, waits until it runs, and makes the next.
func (t *tenants) create(ctx context.Context, p *pool, o *Options, progress func(string, ...any)) []*made {
	list := make([]*made, o.Servers)
	clients(ctx, "servers", o.Servers, o.Parallel, progress, func(ctx context.Context, i int) {
		list[i] = t.createOne(ctx, p, i)
	})
	return list
}

func (t *tenants) createOne(ctx context.Context, p *pool, i int) *made {
	in := &t.projects[i%len(t.projects)]
	server := object{"name": fmt.Sprintf("sim-%06d", i+1), "imageRef": t.image, "flavorRef": flavorID, "networks": "none"}
	if n := len(in.networks); n > 0 {
		server["networks"] = []object{{"uuid": in.networks[i/len(t.projects)%n]}}
	}
	m := &made{in: in, posted: time.Now()}
	var out struct{ Server struct{ ID string } }
	header, err := in.do(ctx, http.MethodPost, "/compute/v2.1/servers", object{"server": server}, &out)
	if err != nil {
		m.fault = err
		return m
	}
	m.id, m.request = out.Server.ID, header.Get("X-Openstack-Request-Id")
	if m.fault = m.await(ctx, p.sight(m.id).running, "run"); m.fault == nil {
		m.running, m.told = time.Now(), p.toldAt(m.id)
	}
	return m
}

// await waits for a node's word on the server, and meanwhile asks now and then
// whether the region has given up.
func (m *made) await(ctx context.Context, word <-chan struct{}, what string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, serverTimeout, fmt.Errorf("server %s does not %s after %s", m.id, what, serverTimeout))
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-word:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if err := m.failed(ctx); err != nil {
				return err
			}
		}
	}
}

// failed is the server's fault, if it has one.
func (m *made) failed(ctx context.Context) error {
	var out struct {
		Server struct {
			Status string
			Fault  struct{ Message string }
		}
	}
	if _, err := m.in.do(ctx, http.MethodGet, "/compute/v2.1/servers/"+m.id, nil, &out); err != nil {
		return err
	}
	if out.Server.Status == "ERROR" {
		return errors.New(out.Server.Fault.Message)
	}
	return nil
}

// erase deletes servers. Each client deletes one, waits until its node has nothing of it, and
// deletes the next.
func erase(ctx context.Context, p *pool, list []*made, parallel int, progress func(string, ...any)) {
	clients(ctx, "deletes", len(list), parallel, progress, func(ctx context.Context, i int) {
		m := list[i]
		if _, m.fault = m.in.do(ctx, http.MethodDelete, "/compute/v2.1/servers/"+m.id, nil, nil); m.fault == nil {
			m.fault = m.await(ctx, p.sight(m.id).gone, "go")
		}
	})
}

// moments are when a server reached a state, as the region's log of its creation says.
type moments struct{ assigned, active time.Time }

const microseconds = "2006-01-02T15:04:05.000000"

// moments reads os-instance-actions: each step of a creation is an event there.
func (m *made) moments(ctx context.Context) (at moments, err error) {
	var out struct {
		Action struct {
			Events []struct {
				Event  string `json:"event"`
				Finish string `json:"finish_time"`
			} `json:"events"`
		} `json:"instanceAction"`
	}
	if _, err := m.in.do(ctx, http.MethodGet, "/compute/v2.1/servers/"+m.id+"/os-instance-actions/"+m.request, nil, &out); err != nil {
		return at, err
	}
	for _, e := range out.Action.Events {
		for name, to := range map[string]*time.Time{"compute_create_schedule": &at.assigned, "compute_create_running": &at.active} {
			if e.Event != name {
				continue
			}
			if *to, err = time.Parse(microseconds, e.Finish); err != nil {
				return at, err
			}
		}
	}
	if at.assigned.IsZero() || at.active.IsZero() {
		return at, fmt.Errorf("server %s has not become active", m.id)
	}
	return at, nil
}

// listDetail gives the time to list servers in detail, the median of several.
func (t *tenants) listDetail(ctx context.Context, n int) (time.Duration, error) {
	var took []time.Duration
	for range 5 {
		var out struct{ Servers []struct{ ID string } }
		begin := time.Now()
		if _, err := t.admin.do(ctx, http.MethodGet, fmt.Sprintf("/compute/v2.1/servers/detail?all_tenants=1&limit=%d", n), nil, &out); err != nil {
			return 0, err
		}
		if len(out.Servers) != n {
			return 0, fmt.Errorf("a list of %d servers has %d", n, len(out.Servers))
		}
		took = append(took, time.Since(begin))
	}
	return quantiles(took).P50, nil
}
