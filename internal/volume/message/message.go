// Package message shows users why work that had been accepted failed (3.3). The
// records are package block's: the sagas write them.
package message

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Service is the messages.
type Service struct{ core *block.Core }

// New shows the messages of the records.
func New(core *block.Core) *Service { return &Service{core} }

// Routes are this package's part of the API.
func (s *Service) Routes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/messages", Policy: "message:get_all", Min: rest.V(3, 3), Handle: s.list},
		{Method: "GET", Path: "/messages/{id}", Policy: "message:get", Min: rest.V(3, 3), Handle: s.show},
		{Method: "DELETE", Path: "/messages/{id}", Policy: "message:delete", Min: rest.V(3, 3), Handle: s.remove},
	}
}

const stamp = "2006-01-02T15:04:05.000000"

func view(r *rest.Request, m *block.Message) map[string]any {
	return map[string]any{"id": m.ID, "event_id": m.Event, "user_message": m.Text, "message_level": "ERROR", "created_at": wire.Stamp(m.Created),
		"guaranteed_until": wire.Stamp(m.Expires()), "request_id": m.RequestID, "links": wire.Links(r, "messages", m.ID), "resource_type": m.Kind, "resource_uuid": m.Resource}
}

func (s *Service) list(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q, err := wire.ReadQuery(r)
	if err != nil {
		return nil, err
	}
	keys := wire.Keys[*block.Message]{
		"id": func(m *block.Message) string { return m.ID }, "event_id": func(m *block.Message) string { return m.Event }, "resource_type": func(m *block.Message) string { return m.Kind },
		"resource_uuid": func(m *block.Message) string { return m.Resource }, "request_id": func(m *block.Message) string { return m.RequestID },
		"message_level": func(*block.Message) string { return "ERROR" }, "created_at": func(m *block.Message) string { return m.Created.Format(stamp) }}
	var found []*block.Message
next:
	for _, m := range s.core.Messages.By("project", r.Creds.ProjectID) {
		if time.Now().After(m.Expires()) {
			continue
		}
		for k := range q.Filters {
			if get := keys[k]; get != nil && get(m) != q.Filters.Get(k) {
				continue next
			}
		}
		found = append(found, m)
	}
	page, err := wire.Cut(q, found, "Message", func(m *block.Message) string { return m.ID }, keys)
	if err != nil {
		return nil, err
	}
	var views []any
	last := ""
	for _, m := range page {
		views, last = append(views, view(r, m)), m.ID
	}
	return wire.Listing(r, q, "messages", "messages", views, last, len(found)), nil
}

func (s *Service) find(r *rest.Request) (*block.Message, error) {
	m, err := s.core.Messages.Get(r.Path("id"))
	if err != nil || !(r.Creds.Admin() || r.Creds.ProjectID == m.ProjectID) {
		return nil, wire.NotFound("Message", r.Path("id"))
	}
	return m, r.Enforce(policy.Target{"project_id": m.ProjectID})
}

func (s *Service) show(_ context.Context, r *rest.Request) (*rest.Response, error) {
	m, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"message": view(r, m)}), nil
}

func (s *Service) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	m, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), s.core.Messages.Delete(ctx, m.ID)
}
