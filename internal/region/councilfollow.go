package region

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

// watchRaft notices who leads.
func (c *council) watchRaft(ctx context.Context) {
	tick := time.NewTicker(raftLook)
	defer tick.Stop()
	for {
		was, _ := c.state()
		if now := c.member.Lead(); now != was {
			c.set(func() { c.lead = now })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *council) runPort(ctx context.Context) {
	if err := c.port.Run(ctx); err != nil && ctx.Err() == nil {
		c.cfg.Log.Error("the cluster's port", "err", err)
	}
}

// followLeader has this machine's agent, and kept connections, go to who leads.
func (c *council) followLeader(ctx context.Context) {
	for {
		lead, changed := c.state()
		if addr, ok := c.addrOf(lead); ok {
			c.agent.client.Know([]string{addr})
			c.api.forget()
			c.peers.forget()
		} else if lead != 0 { // it has not told where it is yet
			wait.Pause(ctx, 5*raftLook)
			if ctx.Err() == nil {
				continue
			}
		}
		for next := lead; next == lead; next, changed = c.state() {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// addrOf is where a member's cluster port is.
func (c *council) addrOf(id uint64) (string, bool) {
	for _, p := range c.member.Peers() {
		if p.ID == id && len(p.URLs) > 0 {
			return strings.TrimPrefix(p.URLs[0], "https://"), true
		}
	}
	return "", false
}

// addrs are the cluster ports of all members.
func (c *council) addrs() []string {
	var out []string
	for _, p := range c.member.Peers() {
		if a, ok := c.addrOf(p.ID); ok {
			out = append(out, a)
		}
	}
	return out
}

// beMember asks to take part in decisions as soon as this member has caught up.
func (c *council) beMember(ctx context.Context) {
	select {
	case <-c.member.Joined():
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		self, ok := c.member.Self()
		if !ok || !self.Learner {
			return
		}
		if err := c.askLeader(ctx, http.MethodPost, fmt.Sprintf("/promote/%d", self.ID), nil); err != nil {
			c.cfg.Log.Info("this member does not take part in decisions yet", "err", err)
		} else {
			c.cfg.Log.Info("this member takes part in decisions")
		}
		wait.Pause(ctx, 500*time.Millisecond)
	}
}
