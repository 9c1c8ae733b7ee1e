package placement

import (
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// allotment is what a consumer shall hold from now on; no allocations: nothing.
type allotment struct {
	consumer, project, user, kind string
	allocations                   map[string]map[string]int64 // provider -> class -> amount
}

// replace gives every consumer exactly these allocations, with all the checks of
// capacity and units. Everything is given back first, so that two consumers may
// swap what they hold. It belongs into the ledger. A refusal is a Conflict; what
// names things that do not exist is Invalid.
func (s *Service) replace(tx *store.Tx, list ...allotment) error {
	touched := map[string]bool{}
	for _, step := range []func(*store.Tx, allotment, map[string]bool) error{s.withdraw, s.deposit, s.settle} {
		for _, a := range list {
			if err := step(tx, a, touched); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		if _, err := s.change(tx, id, func(*Provider) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// withdraw takes what the consumer holds out of the providers' sums. As upstream,
// giving back does not change a provider's generation: only what it takes on can
// invalidate a decision that rests on the older view.
func (s *Service) withdraw(tx *store.Tx, a allotment, _ map[string]bool) error {
	old, err := s.consumers.TxGet(tx, a.consumer)
	if errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	for id, held := range old.Allocations {
		_, err := s.providers.TxUpdate(tx, id, func(p *Provider) error {
			for class, n := range held {
				if p.Used[class] -= n; p.Used[class] == 0 {
					delete(p.Used, class)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deposit checks the new allocations and adds them to the sums.
func (s *Service) deposit(tx *store.Tx, a allotment, touched map[string]bool) error {
	for id, want := range a.allocations {
		touched[id] = true
		for class := range want {
			if !s.knownClass(tx, class) {
				return errs.Invalidf("Unable to allocate inventory for consumer %s: No such resource class %s.", a.consumer, class)
			}
		}
		if _, err := s.txProvider(tx, id); err != nil {
			return errs.Invalidf("Allocation for resource provider '%s' that does not exist.", id)
		}
		_, err := s.providers.TxUpdate(tx, id, func(p *Provider) error {
			if err := p.fits(want); err != nil {
				return err
			}
			if p.Used == nil {
				p.Used = map[string]int64{}
			}
			for class, n := range want {
				p.Used[class] += n
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fits tells why the provider cannot give these amounts, nil if it can.
func (p *Provider) fits(want map[string]int64) error {
	for class, n := range want {
		inv, ok := p.Inventories[class]
		switch {
		case !ok:
			return errs.Conflictf("Unable to allocate inventory: Inventory for '%s' on resource provider '%s' invalid.", class, p.UUID)
		case n < inv.MinUnit || n > inv.MaxUnit || n%inv.StepSize != 0:
			return errs.Conflictf("Unable to allocate inventory: Unable to create allocation for '%s' on resource provider '%s'. The requested amount would violate inventory constraints.", class, p.UUID)
		case p.Used[class]+n > inv.Capacity():
			return errs.Conflictf("Unable to allocate inventory: Unable to create allocation for '%s' on resource provider '%s'. The requested amount would exceed the capacity.", class, p.UUID)
		}
	}
	return nil
}

// settle writes the consumer, or forgets it when it holds nothing.
func (s *Service) settle(tx *store.Tx, a allotment, _ map[string]bool) error {
	old, err := s.consumers.TxGet(tx, a.consumer)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if len(a.allocations) == 0 {
		if old == nil {
			return nil
		}
		return s.consumers.TxDelete(tx, a.consumer)
	}
	c := &Consumer{UUID: a.consumer, ProjectID: a.project, UserID: a.user, Type: a.kind, Generation: 1, Allocations: a.allocations, Created: now()}
	if old != nil {
		c.Generation, c.Created = old.Generation+1, old.Created
		if c.Type == "" {
			c.Type = old.Type
		}
	}
	c.Updated = now()
	return s.consumers.TxPut(tx, c)
}
