package region

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/strata-cloud/strata/internal/nodes"
)

// runAdmin serves the operator's commands on this member until ctx ends.
func (c *council) runAdmin(ctx context.Context) { serveAdmin(ctx, c.cfg, c.adminRoutes()) }

// adminRoutes answer what is of this machine here, and pass the rest on to the leader.
func (c *council) adminRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, q *http.Request) {
		s, err := c.status(q.Context())
		answer(w, s, err)
	})
	mux.HandleFunc("GET /trace", traceRoute(c.agent.host))
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		if err := c.peers.answer(w, below("/leader/admin", q), c.leaderRoutes); err != nil {
			answer(w, nil, c.noLeader(q.Context(), err))
		}
	})
	return mux
}

// status is the leader's, with what is of this process. Without a leader it says why.
func (c *council) status(ctx context.Context) (*Status, error) {
	s := &Status{}
	var failed error
	if r := c.leads(); r != nil {
		var err error
		if s, err = r.Status(ctx); err != nil {
			return nil, err
		}
	} else {
		limit, cancel := context.WithTimeout(ctx, 2*askFor)
		defer cancel()
		if failed = c.askLeader(limit, http.MethodGet, "/admin/status", s); failed != nil {
			s = &Status{Problem: c.noLeader(ctx, failed).Error()}
		}
	}
	pss, err := processPSS()
	if err != nil {
		return nil, err
	}
	s.Version, s.PID, s.URL, s.Begun, s.PSS = c.cfg.Version, os.Getpid(), c.cfg.url(), c.begun, pss
	s.Accel, s.Why, s.TookMS = c.agent.host.info.Accelerator, c.agent.host.why, time.Duration(c.took.Load()).Milliseconds()
	s.Control = c.members(ctx)
	s.Advice = evenMembers(s.Control)
	return s, nil
}

// evenMembers is said of a number of members that is no better than one less.
func evenMembers(members []ControlStatus) string {
	n := 0
	for _, m := range members {
		if m.Role != roleLearner {
			n++
		}
	}
	if n == 0 || n%2 == 1 {
		return ""
	}
	return "an odd number of control members is better: with one less, as many may fail"
}

// roleNames are the roles of control members, by the nodes that they are, too.
func (c *council) roleNames() map[string]string {
	out := map[string]string{}
	for _, p := range c.member.Peers() {
		switch lead, _ := c.state(); {
		case p.ID == lead:
			out[p.Name] = nodes.RoleControl + " " + roleLeader
		case p.Learner:
			out[p.Name] = nodes.RoleControl + " " + roleLearner
		default:
			out[p.Name] = nodes.RoleControl
		}
	}
	return out
}
