package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/strata-cloud/strata/internal/wait"
)

// drainPoll is how often a server that moves is looked at.
const drainPoll = 300 * time.Millisecond

// move moves one server away, if it can be moved.
func (d *drainer) move(ctx context.Context, s *servers.Server) drained {
	begin := time.Now()
	out := drained{ID: s.ID, Name: s.Name, Status: s.Status, Node: s.Host}
	ctx, cancel := context.WithTimeoutCause(ctx, d.o.timeout, fmt.Errorf("not within %s (--timeout gives it longer)", d.o.timeout))
	defer cancel()
	now, err := d.idle(ctx, s.ID, "the task that it is in")
	if err == nil && now != nil {
		out.Status = now.Status
		now, err = d.moveIdle(ctx, now, &out)
	}
	switch {
	case err != nil:
		out.Why = d.plain(err)
	case now == nil:
		out.How, out.Node = "deleted meanwhile", ""
	default:
		out.Node = now.Host
	}
	out.Seconds = time.Since(begin).Round(100 * time.Millisecond).Seconds()
	return out
}

// moveIdle moves a server that no task is under way on; nil: it is gone.
func (d *drainer) moveIdle(ctx context.Context, s *servers.Server, out *drained) (*servers.Server, error) {
	api := d.computeAPI
	switch away := s.Host != d.node; {
	case s.Status == "VERIFY_RESIZE" && away:
		out.How = "confirm"
		return d.confirm(ctx, s.ID)
	case away:
		out.How = "it moved by itself"
		return s, nil
	}
	switch s.Status {
	case "ACTIVE", "PAUSED":
		out.How = "live"
		migrate, host := "auto", (*string)(nil)
		resp, err := api.Post(ctx, api.ServiceURL("servers", s.ID, "action"), map[string]any{"os-migrateLive": map[string]any{"host": host, "block_migration": migrate}}, nil,
			&gophercloud.RequestOpts{OkCodes: []int{202}})
		if err != nil {
			return nil, err
		}
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		return d.arrived(ctx, s.ID)
	case "SHUTOFF":
		out.How = "cold"
		if err := servers.Migrate(ctx, api, s.ID).ExtractErr(); err != nil {
			return nil, err
		}
		there, err := d.arrived(ctx, s.ID)
		if err != nil || there == nil {
			return nil, err
		}
		return d.confirm(ctx, s.ID)
	case "VERIFY_RESIZE":
		return nil, errors.New("its resize is to be confirmed or reverted first")
	}
	return nil, fmt.Errorf("a server that is %s cannot be moved: start it, stop it or delete it", s.Status)
}

// idle waits until no task is under way on the server; nil: it is gone.
func (d *drainer) idle(ctx context.Context, id, what string) (now *servers.Server, err error) {
	err = wait.Until(ctx, what+" to end", drainPoll, func(ctx context.Context) (bool, error) {
		now, err = servers.Get(ctx, d.computeAPI, id).Extract()
		if gophercloud.ResponseCodeIs(err, 404) {
			now, err = nil, nil
			return true, nil
		}
		return err == nil && now.TaskState == "", err
	})
	return now, err
}

// arrived waits for the end of a move and says why it failed, if it did.
func (d *drainer) arrived(ctx context.Context, id string) (*servers.Server, error) {
	now, err := d.idle(ctx, id, "the move")
	if err != nil || now == nil || now.Host != d.node {
		return now, err
	}
	return nil, errors.New(cmp.Or(d.whyNot(ctx, id), now.Fault.Message, "the move failed"))
}

func (d *drainer) confirm(ctx context.Context, id string) (*servers.Server, error) {
	if err := servers.ConfirmResize(ctx, d.computeAPI, id).ExtractErr(); err != nil {
		return nil, err
	}
	return d.idle(ctx, id, "the move's confirmation")
}

// whyNot is what the last action on the server ended with.
func (d *drainer) whyNot(ctx context.Context, id string) string {
	api := *d.computeAPI
	api.Microversion = "2.84" // whose events have details
	var list struct {
		Actions []struct {
			Request string `json:"request_id"`
		} `json:"instanceActions"`
	}
	if _, err := api.Get(ctx, api.ServiceURL("servers", id, "os-instance-actions"), &list, nil); err != nil || len(list.Actions) == 0 {
		return ""
	}
	var one struct {
		Action struct {
			Events []struct {
				Details string `json:"details"`
			} `json:"events"`
		} `json:"instanceAction"`
	}
	if _, err := api.Get(ctx, api.ServiceURL("servers", id, "os-instance-actions", list.Actions[0].Request), &one, nil); err != nil {
		return ""
	}
	for _, e := range one.Action.Events {
		if e.Details != "" {
			return e.Details
		}
	}
	return ""
}

// plain is an error for a table's cell: what the cloud said, if it said something.
func (d *drainer) plain(err error) string {
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) {
		return reason(status.Body)
	}
	return err.Error()
}
