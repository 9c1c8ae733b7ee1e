package cluster

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// What there is to choose from.
const (
	kubernetes = "kubernetes"
	bareMetal  = "bm"
	virtual    = "vm"
	ourDriver  = "strata"
)

func (s *Service) createTemplate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t := &Template{ID: uuid.NewString(), ProjectID: r.Creds.ProjectID, UserID: r.Creds.UserID, Created: now(), TemplateFields: TemplateFields{ServerType: "vm"}}
	if err := read(r.Body(), &t.TemplateFields); err != nil {
		return nil, err
	}
	if t.Name == nil {
		t.Name = ptr(anyName("template"))
	}
	if err := s.fitTemplate(ctx, r.Creds, &t.TemplateFields); err != nil {
		return nil, err
	}
	if err := mayPublish(r, t.Public || t.Hidden); err != nil {
		return nil, err
	}
	if err := s.templates.Create(ctx, t); err != nil {
		return nil, err
	}
	return rest.JSON(201, t.view(r)).With("Location", r.Base()+prefix+"/clustertemplates/"+t.ID), nil
}

// mayPublish refuses what only operators may show to others, or hide from them.
func mayPublish(r *rest.Request, wanted bool) error {
	if wanted && !r.Allows("clustertemplate:publish", r.Own()) {
		return errs.Forbiddenf("Not authorized to set public or hidden flag for cluster template.")
	}
	return nil
}

// fitTemplate completes a template and refuses what clusters could not be made from.
func (s *Service) fitTemplate(ctx context.Context, c *policy.Credentials, t *TemplateFields) error {
	if t.Labels == nil {
		t.Labels = Labels{}
	}
	if t.NetworkDriver == nil {
		t.NetworkDriver = ptr(ourDriver)
	}
	if t.Driver == nil {
		t.Driver = ptr(ourDriver)
	}
	switch {
	case t.ServerType != bareMetal && t.ServerType != virtual:
		return errs.Invalidf("Server type %s is not supported, expecting a %s or %s server type.", t.ServerType, virtual, bareMetal)
	case *t.NetworkDriver != ourDriver:
		return errs.Invalidf("Network driver type %s is not supported, expecting a %s network driver.", *t.NetworkDriver, ourDriver)
	case t.VolumeDriver != nil:
		return errs.Invalidf("Volume driver type %s is not supported, expecting a unspecified volume driver.", *t.VolumeDriver)
	case *t.Driver != ourDriver:
		return errs.Invalidf("Cluster driver (%s) not supported.", *t.Driver)
	case t.TLSDisabled:
		return errs.Invalidf("Clusters without TLS are not supported.")
	}
	if _, err := networksOf(t.Labels, ""); err != nil {
		return err
	}
	if t.ImageID != nil {
		if err := s.Resources.Image(ctx, c, *t.ImageID); err != nil {
			return badReference(err, "Image %s could not be found.", *t.ImageID)
		}
	}
	return s.fitFlavors(ctx, c, t.FlavorID, t.MasterFlavorID)
}

func (s *Service) fitFlavors(ctx context.Context, c *policy.Credentials, refs ...*string) error {
	for _, ref := range refs {
		if _, err := s.size(ctx, c, ref); err != nil {
			return err
		}
	}
	return nil
}

// badReference makes what is not found a fault of the request (magnum/common/exception.py:
// ImageNotFound and FlavorNotFound have the code 400).
func badReference(err error, format string, args ...any) error {
	if errs.Is(err, errs.NotFound) {
		return errs.Invalidf(format, args...)
	}
	return err
}

func (s *Service) showTemplate(_ context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.template(r.Creds, r.Path("template"))
	if err != nil {
		return nil, err
	}
	if !t.Public {
		if err := r.Enforce(t.target()); err != nil {
			return nil, err
		}
	}
	return rest.JSON(200, t.view(r)), nil
}

func (s *Service) listTemplates(path string) rest.Handler {
	return func(_ context.Context, r *rest.Request) (*rest.Response, error) {
		return listing(r, "clustertemplates", path, s.visible(r.Creds), func(t *Template) string { return t.ID }, (*Template).field, func(t *Template) any { return t.view(r) })
	}
}

// fixedTemplate are the attributes that a patch cannot remove.
var fixedTemplate = []string{"/network_driver", "/external_network_id", "/tls_disabled", "/public", "/server_type", "/coe", "/registry_enabled", "/cluster_distro", "/hidden", "/image_id"}

func (s *Service) updateTemplate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.template(r.Creds, r.Path("template"))
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(t.target()); err != nil {
		return nil, err
	}
	list, err := patches(r, nil, fixedTemplate)
	if err != nil {
		return nil, err
	}
	next, changed, err := s.patched(ctx, r.Creds, t, list)
	if err != nil {
		return nil, err
	}
	if err := mayPublish(r, next.Public != t.Public || next.Hidden != t.Hidden); err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		if len(s.clusters.TxBy(tx, "template", t.ID)) > 0 && !harmless(changed, next) {
			return errs.Invalidf("ClusterTemplate %s is referenced by one or multiple clusters.", t.ID)
		}
		t, err = s.templates.TxUpdate(tx, t.ID, func(t *Template) error {
			if len(changed) > 0 {
				t.TemplateFields, t.Updated = *next, ptr(now())
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, t.view(r)), nil
}

// patched is what a template becomes, and the names of what changes.
func (s *Service) patched(ctx context.Context, c *policy.Credentials, t *Template, list []change) (*TemplateFields, []string, error) {
	before, doc := document(t.TemplateFields), document(t.TemplateFields)
	if err := apply(doc, list); err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(doc)
	if err == nil {
		err = templateSchema.Validate(raw)
	}
	if err != nil {
		return nil, nil, err
	}
	var next TemplateFields
	if err := read(raw, &next); err != nil {
		return nil, nil, err
	}
	if next.Name == nil {
		return nil, nil, errs.Invalidf("'/name' is a mandatory attribute and can not be removed")
	}
	if err := s.fitTemplate(ctx, c, &next); err != nil {
		return nil, nil, err
	}
	var changed []string
	after := document(next)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if x, y := text(before[name]), text(after[name]); x != y {
			changed = append(changed, name)
		}
	}
	return &next, changed, nil
}

func text(v any) string {
	raw, _ := json.Marshal(v) // it was read from JSON
	return string(raw)
}

// harmless tells whether clusters do not mind the change (magnum/db/sqlalchemy/api.py,
// _is_publishing_cluster_template).
func harmless(changed []string, next *TemplateFields) bool {
	if len(changed) != 1 {
		return len(changed) == 0
	}
	switch changed[0] {
	case "public":
		return next.Public
	case "tags":
		return next.Tags != nil
	}
	return changed[0] == "hidden" || changed[0] == "name"
}

func (s *Service) deleteTemplate(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	t, err := s.template(r.Creds, r.Path("template"))
	if err != nil {
		return nil, err
	}
	if err := r.Enforce(t.target()); err != nil {
		return nil, err
	}
	err = s.ledger.Do(ctx, func(tx *store.Tx) error {
		if len(s.clusters.TxBy(tx, "template", t.ID)) > 0 {
			return errs.Invalidf("ClusterTemplate %s is referenced by one or multiple clusters.", t.ID)
		}
		return s.templates.TxDelete(tx, t.ID)
	})
	if err != nil {
		return nil, err
	}
	return rest.Empty(204), nil
}
