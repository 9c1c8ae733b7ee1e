package compute

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
)

const microseconds = "2006-01-02T15:04:05.000000"

// actionView is one entry of os-instance-actions: a saga's log.
func actionView(r *rest.Request, l *saga.Record) map[string]any {
	v := map[string]any{"action": l.Action, "instance_uuid": l.Resource, "request_id": l.RequestID, "project_id": l.ProjectID, "user_id": l.UserID,
		"start_time": l.Started.Format(microseconds), "message": nil}
	if l.Error != "" {
		v["message"] = "Error"
	}
	if r.AtLeast(2, 58) {
		v["updated_at"] = l.Updated.Format(microseconds)
	}
	return v
}

// managerEvents are upstream's names of the event that ends an action, where they
// are not the action's own: the methods of its compute manager that are wrapped
// by wrap_instance_event (nova/compute/manager.py).
var managerEvents = map[string]string{
	"create": "_do_build_and_run_instance", "delete": "terminate_instance", "start": "start_instance", "stop": "stop_instance", "reboot": "reboot_instance",
	"pause": "pause_instance", "unpause": "unpause_instance", "suspend": "suspend_instance", "resume": "resume_instance",
	"rebuild": "rebuild_instance", "rescue": "rescue_instance", "unrescue": "unrescue_instance", "resize": "finish_resize", "migrate": "finish_resize",
	"confirmResize": "confirm_resize", "revertResize": "finish_revert_resize", "shelve": "shelve_instance", "shelveOffload": "shelve_offload_instance",
	"unshelve": "unshelve_instance", "createImage": "snapshot_instance", "createBackup": "backup_instance", "restore": "restore_instance",
	"live-migration": "live_migration", "live_migration_cancel": "live_migration_abort", "live_migration_force_complete": "live_migration_force_complete", "evacuate": "rebuild_instance",
}

// events are the steps of a saga as events, the newest first. One that is over
// begins with the event that clients wait for.
func events(r *rest.Request, v *Server, l *saga.Record, all bool) []any {
	out := make([]any, 0, len(l.Steps)+1)
	prefix := "compute_" + l.Action
	if l.Finished() {
		whole := saga.StepLog{Name: prefix, Started: l.Started, Finished: l.Updated, Error: l.Error}
		if name := managerEvents[l.Action]; name != "" {
			whole.Name = "compute_" + name
		}
		out = append(out, eventView(r, v, whole, all))
	}
	for _, st := range slices.Backward(l.Steps) {
		st.Name = prefix + "_" + st.Name
		out = append(out, eventView(r, v, st, all))
	}
	return out
}

// eventView is one event; all is for those who may see everything.
func eventView(r *rest.Request, v *Server, st saga.StepLog, all bool) map[string]any {
	e := map[string]any{"event": st.Name, "start_time": st.Started.Format(microseconds), "finish_time": st.Finished.Format(microseconds), "result": "Success"}
	if st.Error != "" {
		e["result"] = "Error"
	}
	if all {
		e["traceback"] = nil
	}
	if r.AtLeast(2, 62) {
		if e["hostId"] = hostID(v); all {
			e["host"] = wire.OrNull(v.Host)
		}
	}
	if r.AtLeast(2, 84) && r.Allows("os_compute_api:os-instance-actions:events:details", target(v)) {
		e["details"] = wire.OrNull(st.Error)
	}
	return e
}

// withActions finds a server whose actions may be read: from 2.21 on also a deleted one.
func (s *Service) withActions(r *rest.Request) (*Server, error) {
	v, err := s.servers.Get(r.Path("id"))
	if err != nil || !(r.Creds.Admin() || r.Creds.ProjectID == v.ProjectID) || v.DeletedAt != nil && !r.AtLeast(2, 21) {
		return nil, errs.NotFoundf("Instance %s could not be found.", r.Path("id"))
	}
	return v, r.Enforce(target(v))
}

// actionSchemas are the queries of the list: none up to 2.57.
func actionSchemas() []rest.Schema {
	keys := `"limit":{"type":"array","items":{"type":"string","pattern":"^[0-9]+$"}},"marker":{},"changes-since":{}`
	return []rest.Schema{rest.SchemaIn(rest.V(2, 58), rest.V(2, 65), `{"type":"object","properties":{`+keys+`},"additionalProperties":false}`),
		rest.SchemaIn(rest.V(2, 66), rest.Version{}, `{"type":"object","properties":{`+keys+`,"changes-before":{}},"additionalProperties":false}`)}
}

func (s *Service) listActions(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.withActions(r)
	if err != nil {
		return nil, err
	}
	logs, more := s.Sagas.Of(v.ID), false
	if r.AtLeast(2, 58) {
		if logs, more, err = actionPage(r, logs); err != nil {
			return nil, err
		}
	}
	views := make([]any, len(logs))
	for i, l := range logs {
		views[i] = actionView(r, l)
	}
	body := map[string]any{"instanceActions": views}
	if more {
		path := "/compute/v2.1/servers/" + v.ID + "/os-instance-actions"
		body["links"] = []any{map[string]string{"rel": "next", "href": rest.NextLink(r.Base(), path, r.Query(), logs[len(logs)-1].RequestID)}}
	}
	return rest.JSON(200, body), nil
}

func actionPage(r *rest.Request, logs []*saga.Record) ([]*saga.Record, bool, error) {
	since, err := timeOf(r.Query(), "changes-since")
	if err != nil {
		return nil, false, err
	}
	until, err := timeOf(r.Query(), "changes-before")
	if err != nil {
		return nil, false, err
	}
	if !until.IsZero() && until.Before(since) {
		return nil, false, errs.Invalidf("The value of changes-since must be less than or equal to changes-before.")
	}
	page, err := rest.PageOf(r.Query(), 1000)
	if err != nil {
		return nil, false, err
	}
	page.Sorts = []rest.Sort{{Key: "start", Desc: true}}
	logs = slices.DeleteFunc(logs, func(l *saga.Record) bool { return l.Updated.Before(since) || !until.IsZero() && l.Updated.After(until) })
	return rest.Paginate(logs, page, func(l *saga.Record) string { return l.RequestID },
		func(l *saga.Record, _ string) (string, bool) { return l.Started.Format(wire.SortTime), true })
}

// showAction shows the steps too: to administrators always, to owners since 2.51.
func (s *Service) showAction(_ context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.withActions(r)
	if err != nil {
		return nil, err
	}
	all := r.Allows("os_compute_api:os-instance-actions:events", target(v))
	for _, l := range s.Sagas.Of(v.ID) {
		if l.RequestID != r.Path("request") {
			continue
		}
		view := actionView(r, l)
		if all || r.AtLeast(2, 51) {
			view["events"] = events(r, v, l, all)
		}
		return rest.JSON(200, map[string]any{"instanceAction": view}), nil
	}
	return nil, errs.NotFoundf("Action %s not found", r.Path("request"))
}
