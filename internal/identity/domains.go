package identity

import (
	"context"
	"net/http"
	"regexp"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (r *request) domainView(p *directory.Project) object {
	return withExtra(object{"id": p.ID, "name": p.Name, "description": p.Description, "enabled": p.Enabled,
		"tags": tagsView(p), "options": optionsView(p.Options), "links": r.links("/domains/" + p.ID)}, p.Extra)
}

func tagsView(p *directory.Project) []string {
	if p.Tags == nil {
		return []string{}
	}
	return p.Tags
}

// domain finds a domain by id.
func (s *Service) domain(id string) (*directory.Project, error) {
	p, err := s.dir.Projects.Get(id)
	if err != nil || !p.IsDomain {
		return nil, errs.NotFoundf("Could not find domain: %s.", id)
	}
	return p, nil
}

func targetDomain(r *request, t policy.Target) {
	if d, err := r.m.domain(r.Path("domain_id")); err == nil {
		t["target.domain.id"] = d.ID
	}
}

// listDomains is GET /domains. A domain token sees its own domain.
func (m *mount) listDomains(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, p := range m.dir.Projects.By("kind", "domain") {
		if r.Creds.DomainID == "" || r.Creds.DomainID == p.ID {
			views = append(views, r.domainView(p))
		}
	}
	return r.list("domains", views, "enabled", "name", "id")
}

func targetOwnDomain(r *request, t policy.Target) {
	if r.Creds.DomainID != "" {
		t["target.domain.id"] = r.Creds.DomainID
		t["target.domain_id"] = r.Creds.DomainID
	}
}

func (m *mount) showDomain(_ context.Context, r *request) (*rest.Response, error) {
	p, err := m.domain(r.Path("domain_id"))
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"domain": r.domainView(p)}), nil
}

var uuidHex = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (m *mount) createDomain(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("domain")
	if err != nil {
		return nil, err
	}
	id := directory.NewID()
	if explicit := b.text("explicit_domain_id"); explicit != "" {
		if !uuidHex.MatchString(explicit) {
			return nil, errs.Invalidf("Unable to use explicit_domain_id %s: it is not a UUID without dashes.", explicit)
		}
		id = explicit
	}
	p := &directory.Project{ID: id, IsDomain: true, Name: strings.TrimSpace(b.text("name")), Description: b.text("description"),
		Enabled: b.flag("enabled", true), Options: b.options(nil)}
	if p.Tags, err = checkTags(b.texts("tags")); err != nil {
		return nil, err
	}
	p.Extra = b.extra(nil)
	if err := m.createProjectRecord(ctx, p); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"domain": r.domainView(p)}), nil
}

func (m *mount) updateDomain(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := m.domain(r.Path("domain_id"))
	if err != nil {
		return nil, err
	}
	b, err := r.ref("domain")
	if err != nil {
		return nil, err
	}
	if p, err = m.updateProjectRecord(ctx, p, b); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"domain": r.domainView(p)}), nil
}

func (m *mount) deleteDomain(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := m.domain(r.Path("domain_id"))
	if err != nil {
		return nil, err
	}
	if p.ID == DefaultDomain {
		return nil, errs.Forbiddenf("Cannot delete the default domain %s.", p.ID)
	}
	if err := immutable(p.Options, "domain", p.ID, nil); err != nil {
		return nil, err
	}
	if err := m.dir.DeleteDomain(ctx, p.ID); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}

// createProjectRecord writes a new domain or project.
func (s *Service) createProjectRecord(ctx context.Context, p *directory.Project) error {
	err := s.dir.Write(ctx, func(tx *store.Tx) error {
		if p.ParentID != "" { // nobody deletes the parent meanwhile
			if _, err := s.dir.Projects.TxGet(tx, p.ParentID); err != nil {
				return errs.Invalidf("Could not find project: %s.", p.ParentID)
			}
		}
		return s.dir.Projects.TxCreate(tx, p)
	})
	return s.nameConflict(err, "project", p.Name)
}

// nameConflict puts a violated unique key into the words of the API.
func (s *Service) nameConflict(err error, kind, name string) error {
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("Conflict occurred attempting to store %s - Duplicate entry found with name %s.", kind, name)
	}
	return err
}
