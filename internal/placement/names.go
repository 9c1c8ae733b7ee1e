package placement

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

var customName = regexp.MustCompile(`^CUSTOM_[A-Z0-9_]+$`)

func (s *Service) knownClass(tx *store.Tx, name string) bool {
	if s.classSet[name] {
		return true
	}
	_, err := s.classes.TxGet(tx, name)
	return err == nil
}

func (s *Service) knownTrait(tx *store.Tx, name string) bool {
	if s.traitSet[name] {
		return true
	}
	_, err := s.traits.TxGet(tx, name)
	return err == nil
}

func (s *Service) needClass(tx *store.Tx, class, provider string) error {
	if !s.knownClass(tx, class) {
		return errs.Invalidf("Unknown resource class in inventory for resource provider %s: No such resource class %s.", provider, class)
	}
	return nil
}

// class tells whether a class is known outside of a transaction.
func (s *Service) class(name string) bool {
	_, err := s.classes.Get(name)
	return err == nil || s.classSet[name]
}

func (s *Service) trait(name string) bool {
	_, err := s.traits.Get(name)
	return err == nil || s.traitSet[name]
}

func classView(name string) map[string]any {
	return map[string]any{"name": name, "links": []any{link("self", "/placement/resource_classes/"+name)}}
}

func (s *Service) listClasses(_ context.Context, r *rest.Request) (*rest.Response, error) {
	views := []any{}
	for _, n := range standardClasses() {
		views = append(views, classView(n))
	}
	for _, c := range s.classes.All() {
		views = append(views, classView(c.Name))
	}
	return answer(r, 200, map[string]any{"resource_classes": views}, time.Time{}), nil
}

func (s *Service) showClass(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if !s.class(r.Path("name")) {
		return nil, errs.NotFoundf("No such resource class %s.", r.Path("name"))
	}
	return answer(r, 200, classView(r.Path("name")), time.Time{}), nil
}

func (s *Service) createClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Name string `json:"name"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	err := s.classes.Create(ctx, &Name{b.Name, now()})
	if errs.Is(err, errs.Conflict) {
		return nil, errs.Conflictf("Conflicting resource class already exists: %s", b.Name)
	}
	return rest.Empty(201).With("Location", r.Base()+"/placement/resource_classes/"+b.Name), err
}

// ensureClass creates a class, or finds that it exists (since 1.7).
func (s *Service) ensureClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	name := r.Path("name")
	if !customName.MatchString(name) || len(name) > 255 {
		return nil, errs.Invalidf("JSON does not validate: '%s' does not match '^CUSTOM_[A-Z0-9_]+$'", name)
	}
	return s.ensureName(ctx, s.classes, name, r.Base()+"/placement/resource_classes/"+name)
}

func (s *Service) ensureName(ctx context.Context, in *store.Collection[Name], name, location string) (*rest.Response, error) {
	status := 201
	if err := in.Create(ctx, &Name{name, now()}); errs.Is(err, errs.Conflict) {
		status = 204
	} else if err != nil {
		return nil, err
	}
	return rest.Empty(status).With("Location", location), nil
}

// renameClass is PUT until 1.6.
func (s *Service) renameClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Name string `json:"name"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	old := r.Path("name")
	if s.classSet[old] {
		return nil, errs.Invalidf("Cannot update standard resource class %s", old)
	}
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		c, err := s.classes.TxGet(tx, old)
		if err != nil {
			return errs.NotFoundf("No such resource class %s.", old)
		}
		if s.knownClass(tx, b.Name) {
			return errs.Conflictf("Resource class already exists: %s", b.Name)
		}
		if err := s.classFree(tx, old); err != nil {
			return err
		}
		if err := s.classes.TxDelete(tx, old); err != nil {
			return err
		}
		return s.classes.TxCreate(tx, &Name{b.Name, c.Created})
	})
	if err != nil {
		return nil, err
	}
	return answer(r, 200, classView(b.Name), time.Time{}), nil
}

func (s *Service) classFree(tx *store.Tx, name string) error {
	if s.providers.TxCount(tx, "class", name) > 0 {
		return errs.Conflictf("Error in delete resource class: Cannot delete resource class %s. Class is in use in inventory.", name)
	}
	return nil
}

func (s *Service) deleteClass(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	name := r.Path("name")
	if s.classSet[name] {
		return nil, errs.Invalidf("Error in delete resource class: Cannot delete standard resource class %s.", name)
	}
	return rest.Empty(204), s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.classes.TxGet(tx, name); err != nil {
			return errs.NotFoundf("No such resource class %s.", name)
		}
		if err := s.classFree(tx, name); err != nil {
			return err
		}
		return s.classes.TxDelete(tx, name)
	})
}

func (s *Service) listTraits(_ context.Context, r *rest.Request) (*rest.Response, error) {
	q := r.Query()
	if err := onlyQuery(q, "name", "associated"); err != nil {
		return nil, err
	}
	match := func(string) bool { return true }
	if q.Has("name") {
		op, val, ok := strings.Cut(q.Get("name"), ":")
		switch {
		case ok && op == "in":
			names := strings.Split(val, ",")
			match = func(n string) bool { return slices.Contains(names, n) }
		case ok && op == "startswith":
			match = func(n string) bool { return strings.HasPrefix(n, val) }
		default:
			return nil, errs.Invalidf("Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:[name1,name2|prefix]. Got: \"%s\"", q.Get("name"))
		}
	}
	associated := strings.ToLower(q.Get("associated"))
	if q.Has("associated") && associated != "true" && associated != "false" {
		return nil, errs.Invalidf("The query parameter \"associated\" only accepts \"true\" or \"false\"")
	}
	names := standardTraits()
	for _, t := range s.traits.All() {
		names = append(names, t.Name)
	}
	out := []string{}
	for _, n := range names {
		if match(n) && (associated == "" || (associated == "true") == (s.providers.Count("trait", n) > 0)) {
			out = append(out, n)
		}
	}
	return answer(r, 200, map[string]any{"traits": out}, time.Time{}), nil
}

func noTrait(name string) error { return errs.NotFoundf("No such trait(s): %s.", name) }

func (s *Service) showTrait(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if !s.trait(r.Path("name")) {
		return nil, noTrait(r.Path("name"))
	}
	return stamped(r, rest.Empty(204), time.Time{}), nil
}

func (s *Service) ensureTrait(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	name := r.Path("name")
	if !customName.MatchString(name) || len(name) > 255 {
		return nil, errs.Invalidf("The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"")
	}
	resp, err := s.ensureName(ctx, s.traits, name, r.Base()+"/placement/traits/"+name)
	if err != nil {
		return nil, err
	}
	return stamped(r, resp, time.Time{}), nil
}

func (s *Service) deleteTrait(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	name := r.Path("name")
	if s.traitSet[name] {
		return nil, errs.Invalidf("Cannot delete standard trait %s.", name)
	}
	return rest.Empty(204), s.ledger.Do(ctx, func(tx *store.Tx) error {
		if _, err := s.traits.TxGet(tx, name); err != nil {
			return noTrait(name)
		}
		if s.providers.TxCount(tx, "trait", name) > 0 {
			return errs.Conflictf("The trait %s is in use by a resource provider.", name)
		}
		return s.traits.TxDelete(tx, name)
	})
}

func traitsView(r *rest.Request, p *Provider) *rest.Response {
	list := p.Traits
	if list == nil {
		list = []string{}
	}
	return answer(r, 200, map[string]any{"traits": list, "resource_provider_generation": p.Generation}, p.Updated)
}

func (s *Service) listProviderTraits(_ context.Context, r *rest.Request) (*rest.Response, error) {
	p, err := s.provider(r.Path("uuid"))
	if err != nil {
		return nil, err
	}
	return traitsView(r, p), nil
}

func (s *Service) replaceProviderTraits(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b struct {
		Traits     []string `json:"traits"`
		Generation int64    `json:"resource_provider_generation"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	slices.Sort(b.Traits)
	p, err := s.edit(ctx, r, func(tx *store.Tx, p *Provider) error {
		if err := sameGeneration(p, b.Generation); err != nil {
			return err
		}
		for _, t := range b.Traits {
			if !s.knownTrait(tx, t) {
				return errs.Invalidf("No such trait %s", t)
			}
		}
		p.Traits = b.Traits
		return nil
	})
	if err != nil {
		return nil, err
	}
	return traitsView(r, p), nil
}

func (s *Service) deleteProviderTraits(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	_, err := s.edit(ctx, r, func(_ *store.Tx, p *Provider) error { p.Traits = nil; return nil })
	return rest.Empty(204), err
}
