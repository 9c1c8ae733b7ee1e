package placement

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// incomplete stands for the project and user that requests before 1.8 do not name
// (upstream's incomplete_consumer_project_id).
const incomplete = "00000000-0000-0000-0000-000000000000"

// consumerBody is what a request wants a consumer to hold.
type consumerBody struct {
	Allocations json.RawMessage `json:"allocations"`
	ProjectID   string          `json:"project_id"`
	UserID      string          `json:"user_id"`
	Generation  *int64          `json:"consumer_generation"`
	Type        string          `json:"consumer_type"`
}

type heldBody struct {
	Provider struct {
		UUID string `json:"uuid"`
	} `json:"resource_provider"`
	Resources map[string]int64 `json:"resources"`
}

func (b *consumerBody) allotment(r *rest.Request, consumer string) (allotment, error) {
	a := allotment{consumer: normal(consumer), project: b.ProjectID, user: b.UserID, kind: b.Type, allocations: map[string]map[string]int64{}}
	if a.project == "" {
		a.project, a.user = incomplete, incomplete
	}
	byProvider := map[string]heldBody{}
	var err error
	if r.AtLeast(1, 12) {
		err = json.Unmarshal(b.Allocations, &byProvider)
	} else {
		var list []heldBody
		err = json.Unmarshal(b.Allocations, &list)
		for _, h := range list {
			byProvider[h.Provider.UUID] = h
		}
	}
	if err != nil {
		return a, errs.Invalidf("JSON does not validate: %w", err)
	}
	for id, h := range byProvider {
		a.allocations[normal(id)] = h.Resources
	}
	return a, nil
}

// expect refuses a write that was made from an older view of the consumer (since
// 1.28; null says that it shall not exist yet).
func (s *Service) expect(tx *store.Tx, r *rest.Request, consumer string, seen *int64) error {
	if !r.AtLeast(1, 28) {
		return nil
	}
	c, err := s.consumers.TxGet(tx, consumer)
	switch {
	case err != nil && seen != nil:
		return concurrent("consumer generation conflict - expected null but got %d", *seen)
	case err == nil && seen == nil:
		return concurrent("consumer generation conflict - expected %d but got None", c.Generation)
	case err == nil && c.Generation != *seen:
		return concurrent("consumer generation conflict - expected %d but got %d", c.Generation, *seen)
	}
	return nil
}

// putAllocations replaces what one consumer holds (PUT /allocations/{consumer}).
func (s *Service) putAllocations(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := uuid.Parse(r.Path("consumer")); err != nil {
		return nil, errs.Invalidf("Malformed consumer_uuid: %s", r.Path("consumer"))
	}
	var b consumerBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	return rest.Empty(204), s.write(ctx, r, map[string]consumerBody{r.Path("consumer"): b})
}

// postAllocations replaces what several consumers hold, all or nothing.
func (s *Service) postAllocations(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]consumerBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	return rest.Empty(204), s.write(ctx, r, b)
}

func (s *Service) write(ctx context.Context, r *rest.Request, bodies map[string]consumerBody) error {
	list, err := allotments(r, bodies)
	if err != nil {
		return err
	}
	return s.ledger.Do(ctx, func(tx *store.Tx) error { return s.writeTx(tx, r, bodies, list) })
}

func (s *Service) writeTx(tx *store.Tx, r *rest.Request, bodies map[string]consumerBody, list []allotment) error {
	for id, b := range bodies {
		if err := s.expect(tx, r, normal(id), b.Generation); err != nil {
			return err
		}
	}
	return s.replace(tx, list...)
}

func allotments(r *rest.Request, bodies map[string]consumerBody) ([]allotment, error) {
	var list []allotment
	for _, id := range slices.Sorted(maps.Keys(bodies)) {
		b := bodies[id]
		a, err := b.allotment(r, id)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// showAllocations answers with an empty object for a consumer that holds nothing:
// placement does not know which consumers there could be.
func (s *Service) showAllocations(_ context.Context, r *rest.Request) (*rest.Response, error) {
	c, err := s.consumers.Get(normal(r.Path("consumer")))
	if err != nil {
		return answer(r, 200, map[string]any{"allocations": map[string]any{}}, time.Time{}), nil
	}
	held := map[string]any{}
	for id, resources := range c.Allocations {
		generation := int64(0)
		if p, err := s.providers.Get(id); err == nil {
			generation = p.Generation
		}
		held[id] = map[string]any{"generation": generation, "resources": resources}
	}
	body := map[string]any{"allocations": held}
	if r.AtLeast(1, 12) {
		body["project_id"], body["user_id"] = c.ProjectID, c.UserID
	}
	if r.AtLeast(1, 28) {
		body["consumer_generation"] = c.Generation
	}
	if r.AtLeast(1, 38) {
		body["consumer_type"] = c.kind()
	}
	return answer(r, 200, body, c.Updated), nil
}

// kind is the consumer's type, "unknown" when none was ever given.
func (c *Consumer) kind() string {
	if c.Type == "" {
		return "unknown"
	}
	return c.Type
}

func (s *Service) deleteAllocations(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id := normal(r.Path("consumer"))
	return rest.Empty(204), s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.consumers.TxGet(tx, id); err != nil {
			return errs.NotFoundf("No allocations for consumer '%s'", r.Path("consumer"))
		}
		return s.release(tx, id)
	})
}

func (s *Service) listProviderAllocations(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	held, newest := map[string]any{}, time.Time{}
	for _, c := range s.consumers.By("provider", p.UUID) {
		v := map[string]any{"resources": c.Allocations[p.UUID]}
		if r.AtLeast(1, 28) {
			v["consumer_generation"] = c.Generation
		}
		held[c.UUID] = v
		if c.Updated.After(newest) {
			newest = c.Updated
		}
	}
	return answer(r, 200, map[string]any{"allocations": held, "resource_provider_generation": p.Generation}, newest), nil
}

// totalUsages adds up what a project, or one of its users, holds (GET /usages).
func (s *Service) totalUsages(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q := r.Query()
	known := []string{"project_id", "user_id"}
	if r.AtLeast(1, 38) {
		known = append(known, "consumer_type")
	}
	if err := onlyQuery(q, known...); err != nil {
		return nil, err
	}
	for _, key := range []string{"project_id", "user_id"} {
		if n := len(q.Get(key)); (q.Has(key) || key == "project_id") && (n < 1 || n > 255) {
			return nil, errs.Invalidf("Invalid query string parameters: '%s' must have 1 to 255 characters", key)
		}
	}
	project := q.Get("project_id")
	target := r.Own()
	target["project_id"] = project
	if err := r.Enforce(target); err != nil {
		return nil, err
	}
	plain, byType := map[string]int64{}, map[string]map[string]int64{}
	wanted := q.Get("consumer_type")
	for _, c := range s.consumers.By("project", project) {
		if user := q.Get("user_id"); user != "" && user != c.UserID {
			continue
		}
		kind := c.kind()
		if wanted != "" && wanted != "all" && wanted != kind {
			continue
		}
		if wanted == "all" {
			kind = "all"
		}
		if byType[kind] == nil {
			byType[kind] = map[string]int64{}
		}
		byType[kind]["consumer_count"]++
		for _, resources := range c.Allocations {
			for class, n := range resources {
				plain[class] += n
				byType[kind][class] += n
			}
		}
	}
	if r.AtLeast(1, 38) {
		return answer(r, 200, map[string]any{"usages": byType}, time.Time{}), nil
	}
	return answer(r, 200, map[string]any{"usages": plain}, time.Time{}), nil
}

// reshape changes inventories and allocations together (POST /reshaper).
func (s *Service) reshape(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Inventories map[string]struct {
			Generation  int64                    `json:"resource_provider_generation"`
			Inventories map[string]inventoryBody `json:"inventories"`
		} `json:"inventories"`
		Allocations map[string]consumerBody `json:"allocations"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	list, err := allotments(r, b.Allocations)
	if err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		// New inventories are added first and old ones removed last, so that the
		// allocations can move from one to the other.
		for id, inv := range b.Inventories {
			if _, err := s.change(tx, id, func(p *Provider) error {
				if err := sameGeneration(p, inv.Generation); err != nil {
					return err
				}
				if p.Inventories == nil {
					p.Inventories = map[string]Inventory{}
				}
				for class, i := range inv.Inventories {
					if err := s.needClass(tx, class, p.UUID); err != nil {
						return err
					}
					p.Inventories[class] = i.Inventory
				}
				return nil
			}); err != nil {
				return err
			}
		}
		if err := s.writeTx(tx, r, b.Allocations, list); err != nil {
			return err
		}
		for id, inv := range b.Inventories {
			if _, err := s.change(tx, id, func(p *Provider) error { return s.setInventories(tx, r, p, inv.Inventories) }); err != nil {
				return err
			}
		}
		return nil
	})
	return rest.Empty(204), err
}
