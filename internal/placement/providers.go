package placement

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func providerPath(id string) string { return "/placement/resource_providers/" + id }

func providerView(r *rest.Request, p *Provider) map[string]any {
	path := providerPath(p.UUID)
	links := []any{link("self", path), link("inventories", path+"/inventories"), link("usages", path+"/usages")}
	for _, l := range []struct {
		minor int
		rel   string
	}{{1, "aggregates"}, {6, "traits"}, {11, "allocations"}} {
		if r.AtLeast(1, l.minor) {
			links = append(links, link(l.rel, path+"/"+l.rel))
		}
	}
	v := map[string]any{"uuid": p.UUID, "name": p.Name, "generation": p.Generation, "links": links}
	if r.AtLeast(1, 14) {
		v["parent_provider_uuid"], v["root_provider_uuid"] = orNull(p.Parent), p.Root
	}
	return v
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (s *Service) listProviders(_ context.Context, r *rest.Request) (*rest.Response, error) {
	match, err := s.providerFilter(r)
	if err != nil {
		return nil, err
	}
	views, newest := []any{}, time.Time{}
	for _, p := range s.providers.All() {
		if match(p) {
			views = append(views, providerView(r, p))
			if p.Updated.After(newest) {
				newest = p.Updated
			}
		}
	}
	return answer(r, 200, map[string]any{"resource_providers": views}, newest), nil
}

func (s *Service) showProvider(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	return answer(r, 200, providerView(r, p), p.Updated), nil
}

func duplicate(what string) error {
	return errs.Coded(errs.Conflict, "placement.duplicate_name", "Conflicting resource provider %s already exists.", what)
}

type providerBody struct {
	Name   string  `json:"name"`
	UUID   string  `json:"uuid"`
	Parent *string `json:"parent_provider_uuid"`
}

func (s *Service) createProvider(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b providerBody
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	p := &Provider{UUID: normal(b.UUID), Name: b.Name, Created: now()}
	if p.UUID == "" {
		p.UUID = uuid.NewString()
	}
	p.Root, p.Updated = p.UUID, p.Created
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.providers.TxGet(tx, p.UUID); err == nil {
			return duplicate("uuid: " + p.UUID)
		}
		if _, taken := s.providers.TxUnique(tx, "name", p.Name); taken {
			return duplicate("name: " + p.Name)
		}
		if b.Parent != nil {
			if normal(*b.Parent) == p.UUID {
				return errs.Invalidf("Unable to create resource provider \"%s\", %s: Object action create failed because: parent provider UUID cannot be same as UUID.", p.Name, p.UUID)
			}
			parent, err := s.providers.TxGet(tx, normal(*b.Parent))
			if err != nil {
				return errs.Invalidf("Unable to create resource provider \"%s\", %s: Object action create failed because: parent provider UUID does not exist", p.Name, p.UUID)
			}
			p.Parent, p.Root = parent.UUID, parent.Root
		}
		return s.providers.TxCreate(tx, p)
	})
	if err != nil {
		return nil, err
	}
	if !r.AtLeast(1, 20) {
		return rest.Empty(201).With("Location", r.Base()+providerPath(p.UUID)), nil
	}
	return answer(r, 200, providerView(r, p), p.Updated).With("Location", r.Base()+providerPath(p.UUID)), nil
}

// updateProvider changes name and parent. A parent may be given to a provider
// without one; changing or removing it is allowed since 1.37.
func (s *Service) updateProvider(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b map[string]*string
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	var out *Provider
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		p, err := s.txProvider(tx, r.Path("uuid"))
		if err != nil {
			return err
		}
		name := *b["name"]
		if other, taken := s.providers.TxUnique(tx, "name", name); taken && other.UUID != p.UUID {
			return duplicate(name)
		}
		if out, err = s.providers.TxUpdate(tx, p.UUID, func(p *Provider) error {
			p.Name, p.Updated = name, now()
			return nil
		}); err != nil {
			return err
		}
		if parent, given := b["parent_provider_uuid"]; given {
			out, err = s.reparent(tx, out, parent, r.AtLeast(1, 37))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer(r, 200, providerView(r, out), out.Updated), nil
}

func (s *Service) reparent(tx *store.Tx, p *Provider, wanted *string, free bool) (*Provider, error) {
	bad := func(why string) error {
		return errs.Invalidf("Unable to save resource provider %s: Object action update failed because: %s", p.UUID, why)
	}
	parent, root := "", p.UUID
	if wanted != nil {
		q, err := s.providers.TxGet(tx, normal(*wanted))
		if err != nil {
			return nil, bad("parent provider UUID does not exist")
		}
		parent, root = q.UUID, q.Root
	}
	if parent == p.Parent {
		return p, nil
	}
	if p.Parent != "" && !free {
		if parent == "" {
			return nil, bad("un-parenting a provider is not currently allowed")
		}
		return nil, bad("re-parenting a provider is not currently allowed.")
	}
	below := s.subtree(tx, p)
	if slices.Contains(below, parent) {
		return nil, bad("creating loop in the provider tree is not allowed.")
	}
	for _, id := range below {
		if _, err := s.providers.TxUpdate(tx, id, func(q *Provider) error { q.Root = root; return nil }); err != nil {
			return nil, err
		}
	}
	return s.providers.TxUpdate(tx, p.UUID, func(q *Provider) error { q.Parent = parent; return nil })
}

// subtree lists the provider and all below it.
func (s *Service) subtree(tx *store.Tx, p *Provider) []string {
	out := []string{p.UUID}
	for i := 0; i < len(out); i++ {
		for _, child := range s.providers.TxBy(tx, "parent", out[i]) {
			out = append(out, child.UUID)
		}
	}
	return out
}

func (s *Service) removeProvider(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	return rest.Empty(204), s.deleteProvider(ctx, r.Path("uuid"))
}

func (s *Service) deleteProvider(ctx context.Context, id string) error {
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		p, err := s.txProvider(tx, id)
		if err != nil {
			return errs.Coded(errs.NotFound, "placement.resource_provider.not_found", "No resource provider with uuid %s found for delete", id)
		}
		if s.providers.TxCount(tx, "parent", p.UUID) > 0 {
			return errs.Coded(errs.Conflict, "placement.resource_provider.cannot_delete_parent",
				"Unable to delete parent resource provider %s: It has child resource providers.", p.UUID)
		}
		if len(p.Used) > 0 {
			return errs.Coded(errs.Conflict, "placement.resource_provider.inuse", "Unable to delete resource provider %s: Resource provider has allocations.", p.UUID)
		}
		return s.providers.TxDelete(tx, p.UUID)
	})
}

func (s *Service) showUsages(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	// Every class of the inventory is listed, used or not.
	usages := map[string]int64{}
	for class := range p.Inventories {
		usages[class] = p.Used[class]
	}
	return answer(r, 200, map[string]any{"resource_provider_generation": p.Generation, "usages": usages}, time.Time{}), nil
}
