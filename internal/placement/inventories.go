package placement

import (
	"context"
	"encoding/json"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// inventoryBody is one inventory of a request, over upstream's defaults.
type inventoryBody struct {
	Inventory
	Class      string `json:"resource_class"`
	Generation *int64 `json:"resource_provider_generation"`
}

func (b *inventoryBody) UnmarshalJSON(raw []byte) error {
	type plain inventoryBody
	v := plain{Inventory: Inventory{MinUnit: 1, MaxUnit: maxInt, StepSize: 1, Ratio: 1}}
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	*b = inventoryBody(v)
	return nil
}

// checkCapacity refuses an inventory that could never give anything; since 1.26
// all of it may be reserved.
func checkCapacity(r *rest.Request, id, class string, i Inventory) error {
	c := i.Capacity()
	if c < 0 || c == 0 && !r.AtLeast(1, 26) {
		return errs.Invalidf("Unable to update inventory for resource provider %s: Invalid inventory for '%s' on resource provider '%s'. The reserved value is greater than or equal to total.", id, class, id)
	}
	return nil
}

func inventoriesView(p *Provider) map[string]any {
	list := p.Inventories
	if list == nil {
		list = map[string]Inventory{}
	}
	return map[string]any{"resource_provider_generation": p.Generation, "inventories": list}
}

func inventoryView(p *Provider, class string) map[string]any {
	i := p.Inventories[class]
	return map[string]any{"total": i.Total, "reserved": i.Reserved, "min_unit": i.MinUnit, "max_unit": i.MaxUnit, "step_size": i.StepSize,
		"allocation_ratio": i.Ratio, "resource_provider_generation": p.Generation}
}

func (s *Service) listInventories(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	return answer(r, 200, inventoriesView(p), p.Updated), nil
}

func (s *Service) showInventory(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	if _, ok := p.Inventories[r.Path("class")]; !ok {
		return nil, errs.NotFoundf("No inventory of class %s for %s", r.Path("class"), p.UUID)
	}
	return answer(r, 200, inventoryView(p, r.Path("class")), p.Updated), nil
}

func (s *Service) createInventory(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b inventoryBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	p, err := s.edit(ctx, r, func(tx *store.Tx, p *Provider) error {
		if err := s.needClass(tx, b.Class, p.UUID); err != nil {
			return err
		}
		if err := checkCapacity(r, p.UUID, b.Class, b.Inventory); err != nil {
			return err
		}
		if _, ok := p.Inventories[b.Class]; ok {
			return concurrent("Update conflict: inventory of class %s exists on resource provider %s", b.Class, p.UUID)
		}
		if p.Inventories == nil {
			p.Inventories = map[string]Inventory{}
		}
		p.Inventories[b.Class] = b.Inventory
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer(r, 201, inventoryView(p, b.Class), p.Updated).With("Location", r.Base()+providerPath(p.UUID)+"/inventories/"+b.Class), nil
}

func (s *Service) updateInventory(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b inventoryBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	class := r.Path("class")
	p, err := s.edit(ctx, r, func(_ *store.Tx, p *Provider) error {
		if err := sameGeneration(p, *b.Generation); err != nil {
			return err
		}
		if err := checkCapacity(r, p.UUID, class, b.Inventory); err != nil {
			return err
		}
		if _, ok := p.Inventories[class]; !ok {
			return errs.Invalidf("No inventory record with resource class for resource provider %s: %s", p.UUID, class)
		}
		p.Inventories[class] = b.Inventory
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answer(r, 200, inventoryView(p, class), p.Updated), nil
}

func (s *Service) replaceInventories(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Generation  int64                    `json:"resource_provider_generation"`
		Inventories map[string]inventoryBody `json:"inventories"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	p, err := s.edit(ctx, r, func(tx *store.Tx, p *Provider) error {
		if err := sameGeneration(p, b.Generation); err != nil {
			return err
		}
		return s.setInventories(tx, r, p, b.Inventories)
	})
	if err != nil {
		return nil, err
	}
	return answer(r, 200, inventoriesView(p), p.Updated), nil
}

func (s *Service) setInventories(tx *store.Tx, r *rest.Request, p *Provider, wanted map[string]inventoryBody) error {
	next := map[string]Inventory{}
	for class, i := range wanted {
		if err := s.needClass(tx, class, p.UUID); err != nil {
			return err
		}
		if err := checkCapacity(r, p.UUID, class, i.Inventory); err != nil {
			return err
		}
		next[class] = i.Inventory
	}
	for class := range p.Inventories {
		if _, stays := next[class]; !stays && p.Used[class] > 0 {
			return inUse(class, p.UUID)
		}
	}
	p.Inventories = next
	return nil
}

func inUse(class, id string) error {
	return errs.Coded(errs.Conflict, "placement.inventory.inuse", "update conflict: Inventory for '%s' on resource provider '%s' in use.", class, id)
}

func (s *Service) deleteInventories(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.edit(ctx, r, func(tx *store.Tx, p *Provider) error { return s.setInventories(tx, r, p, nil) })
	return rest.Empty(204), err
}

func (s *Service) deleteInventory(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	class := r.Path("class")
	_, err := s.edit(ctx, r, func(_ *store.Tx, p *Provider) error {
		if _, ok := p.Inventories[class]; !ok {
			return errs.NotFoundf("No inventory of class %s found for delete: resource provider %s", class, p.UUID)
		}
		if p.Used[class] > 0 {
			// Upstream's code here is the one of concurrent updates (handlers/inventory.py, delete_inventory).
			return concurrent("Unable to delete inventory of class %s: Inventory for '%s' on resource provider '%s' in use.", class, class, p.UUID)
		}
		delete(p.Inventories, class)
		return nil
	})
	return rest.Empty(204), err
}

// edit changes the provider of the path, with a new generation, in the ledger.
func (s *Service) edit(ctx context.Context, r *rest.Request, fn func(*store.Tx, *Provider) error) (p *Provider, err error) {
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		p, err = s.change(tx, r.Path("uuid"), func(p *Provider) error { return fn(tx, p) })
		return err
	})
	return p, err
}

func (s *Service) listAggregates(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	return aggregatesView(r, p), nil
}

func aggregatesView(r *rest.Request, p *Provider) *rest.Response {
	list := p.Aggregates
	if list == nil {
		list = []string{}
	}
	body := map[string]any{"aggregates": list}
	if r.AtLeast(1, 19) {
		body["resource_provider_generation"] = p.Generation
	}
	return answer(r, 200, body, time.Time{})
}

// replaceAggregates sets the aggregates; before 1.19 without regard to generations.
func (s *Service) replaceAggregates(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Aggregates []string `json:"aggregates"`
		Generation int64    `json:"resource_provider_generation"`
	}
	guarded := r.AtLeast(1, 19)
	var err error
	if guarded {
		err = r.Decode(&b)
	} else {
		err = r.Decode(&b.Aggregates)
	}
	if err != nil {
		return nil, err
	}
	for i := range b.Aggregates {
		b.Aggregates[i] = normal(b.Aggregates[i])
	}
	p, err := s.edit(ctx, r, func(_ *store.Tx, p *Provider) error {
		if guarded {
			if err := sameGeneration(p, b.Generation); err != nil {
				return err
			}
		} else {
			p.Generation-- // edit adds one
		}
		p.Aggregates = b.Aggregates
		return nil
	})
	if err != nil {
		return nil, err
	}
	return aggregatesView(r, p), nil
}
