package identity

import (
	"context"
	"net/http"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity/directory"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// The policies API keeps texts for services that fetch them. Nothing in the
// region reads them, as upstream; rules are overridden in policy.yaml.

func (r *request) blobView(p *directory.PolicyBlob) object {
	return withExtra(object{"id": p.ID, "type": p.Type, "blob": p.Blob, "links": r.links("/policies/" + p.ID)}, p.Extra)
}

func (r *request) policyBlob() (*directory.PolicyBlob, error) {
	p, err := r.m.dir.PolicyBlobs.Get(r.Path("policy_id"))
	if err != nil {
		return nil, errs.NotFoundf("Could not find policy: %s.", r.Path("policy_id"))
	}
	return p, nil
}

func applyBlob(p *directory.PolicyBlob, b ref) {
	if b.has("type") {
		p.Type = b.text("type")
	}
	if b.has("blob") {
		p.Blob = b.text("blob")
	}
	p.Extra = b.extra(p.Extra)
}

func (m *mount) listPolicies(_ context.Context, r *request) (*rest.Response, error) {
	var views []object
	for _, p := range m.dir.PolicyBlobs.All() {
		views = append(views, r.blobView(p))
	}
	return r.list("policies", views, "type")
}

func (m *mount) showPolicy(_ context.Context, r *request) (*rest.Response, error) {
	p, err := r.policyBlob()
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"policy": r.blobView(p)}), nil
}

func (m *mount) createPolicy(ctx context.Context, r *request) (*rest.Response, error) {
	b, err := r.ref("policy")
	if err != nil {
		return nil, err
	}
	p := &directory.PolicyBlob{ID: directory.NewID()}
	applyBlob(p, b)
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.PolicyBlobs.TxCreate(tx, p) }); err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusCreated, object{"policy": r.blobView(p)}), nil
}

func (m *mount) updatePolicy(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := r.policyBlob()
	if err != nil {
		return nil, err
	}
	b, err := r.ref("policy")
	if err != nil {
		return nil, err
	}
	if err := b.matchID(p.ID); err != nil {
		return nil, err
	}
	err = m.dir.Write(ctx, func(tx *store.Tx) error {
		p, err = m.dir.PolicyBlobs.TxUpdate(tx, r.Path("policy_id"), func(p *directory.PolicyBlob) error {
			applyBlob(p, cloneRef(b))
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(http.StatusOK, object{"policy": r.blobView(p)}), nil
}

func (m *mount) deletePolicy(ctx context.Context, r *request) (*rest.Response, error) {
	p, err := r.policyBlob()
	if err != nil {
		return nil, err
	}
	if err := m.dir.Write(ctx, func(tx *store.Tx) error { return m.dir.PolicyBlobs.TxDelete(tx, p.ID) }); err != nil {
		return nil, err
	}
	return rest.Empty(http.StatusNoContent), nil
}
