package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// auditRoutes tell which hosts sent a notification about each server's use of the
// last whole month. None does, as upstream by default (instance_usage_audit = False):
// os-simple-tenant-usage counts from the records instead.
func (p *Pool) auditRoutes() []rest.Route {
	const at, rule = "/os-instance_usage_audit_log", "os_compute_api:os-instance-usage-audit-log:"
	return []rest.Route{
		{Method: "GET", Path: at, Policy: rule + "list", Handle: p.listAudits},
		{Method: "GET", Path: at + "/{before}", Policy: rule + "show", Handle: p.showAudit},
	}
}

func (p *Pool) listAudits(context.Context, *rest.Request) (*rest.Response, error) {
	return rest.JSON(200, map[string]any{"instance_usage_audit_logs": p.audits(time.Now().UTC())}), nil
}

func (p *Pool) showAudit(_ context.Context, r *rest.Request) (*rest.Response, error) {
	before, err := time.Parse("2006-01-02 15:04:05.999999", r.Path("before"))
	if err != nil {
		return nil, errs.Invalidf("Invalid timestamp for date %s", r.Path("before"))
	}
	return rest.JSON(200, map[string]any{"instance_usage_audit_log": p.audits(before)}), nil
}

// audits is the log of the last month that ended before (nova/utils.py, last_completed_audit_period).
func (p *Pool) audits(before time.Time) map[string]any {
	const stamp = "2006-01-02 15:04:05"
	end := time.Date(before.Year(), before.Month(), 1, 0, 0, 0, 0, time.UTC)
	if !end.Before(before) {
		end = end.AddDate(0, -1, 0)
	}
	hosts := []string{}
	for _, n := range p.nodes.Infos.All() {
		hosts = append(hosts, n.ID)
	}
	done := fmt.Sprintf("0 of %d", len(hosts))
	if len(hosts) == 0 {
		done = "ALL"
	}
	return map[string]any{"period_beginning": end.AddDate(0, -1, 0).Format(stamp), "period_ending": end.Format(stamp),
		"num_hosts": len(hosts), "num_hosts_done": 0, "num_hosts_running": 0, "num_hosts_not_run": len(hosts), "hosts_not_run": hosts,
		"total_instances": 0, "total_errors": 0, "overall_status": done + " hosts done. 0 errors.", "log": map[string]any{}}
}
