package region

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/strata-cloud/strata/internal/cluster"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/identity"
	"github.com/strata-cloud/strata/internal/network"
	"github.com/strata-cloud/strata/internal/registry"
)

// bootMark says that a part of the first start is done: it is never done again,
// so that what users delete stays deleted.
type bootMark struct {
	ID         string    `json:"id"`
	Done       time.Time `json:"done"`
	PublicCIDR string    `json:"public_cidr,omitempty"` // as it was then
}

// bootstrap makes what a new region starts with, and at every start the catalog
// true to where the APIs are.
func (r *Region) bootstrap(ctx context.Context) error {
	if err := r.samePublic(); err != nil {
		return err
	}
	pass, err := ensureClouds(&r.cfg)
	if err != nil {
		return err
	}
	err = r.once(ctx, "identity", func() error {
		return r.Identity.Bootstrap(ctx, identity.BootstrapOptions{AdminPassword: pass.admin, DemoPassword: pass.demo, Region: regionName})
	})
	if err != nil {
		return err
	}
	for _, s := range r.catalog() {
		if err := r.Identity.EnsureService(ctx, regionName, s); err != nil {
			return fmt.Errorf("registering %s: %w", s.Type, err)
		}
	}
	if err := r.once(ctx, "flavors", func() error { return r.Compute.Seed(ctx) }); err != nil {
		return err
	}
	if err := r.Volume.Seed(ctx); err != nil {
		return fmt.Errorf("volume types: %w", err)
	}
	return r.once(ctx, "networks", func() error {
		demo, ok := r.Identity.ProjectNamed(identity.DefaultDomain, "demo")
		admin, ok2 := r.Identity.ProjectNamed(identity.DefaultDomain, "admin")
		if !ok || !ok2 {
			return errs.NotFoundf("the projects of the first start are gone")
		}
		return r.Network.Bootstrap(ctx, network.BootstrapOptions{PublicCIDR: netip.MustParsePrefix(r.cfg.PublicCIDR), AdminProject: admin.ID, DemoProject: demo.ID})
	})
}

func (r *Region) catalog() []identity.BootstrapService {
	base := r.cfg.url()
	return []identity.BootstrapService{
		{Type: "identity", Name: "keystone", URL: base + "/identity"},
		{Type: "image", Name: "glance", URL: base + "/image"},
		{Type: "placement", Name: "placement", URL: base + "/placement"},
		{Type: "network", Name: "neutron", URL: base + "/network"},
		{Type: "compute", Name: "nova", URL: base + "/compute/v2.1"},
		{Type: "block-storage", Name: "cinder", URL: base + "/volume/v3"},
		{Type: "volumev3", Name: "cinderv3", URL: base + "/volume/v3/$(project_id)s"},
		{Type: "load-balancer", Name: "octavia", URL: base + "/load-balancer"},
		{Type: cluster.ServiceType, Name: "magnum", URL: base + "/container-infra/v1"},
		{Type: registry.ServiceType, Name: "registry", URL: base + "/v2/"},
	}
}

// once runs fn unless its mark is there; fn must be idempotent, as a crash may come before the mark.
func (r *Region) once(ctx context.Context, id string, fn func() error) error {
	if _, err := r.boot.Get(id); err == nil {
		return nil
	}
	if err := fn(); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return r.boot.Create(ctx, &bootMark{ID: id, Done: time.Now().UTC(), PublicCIDR: r.cfg.PublicCIDR})
}

// samePublic refuses another external network than that of the first start: it
// would have no link to this machine.
func (r *Region) samePublic() error {
	m, err := r.boot.Get("networks")
	if err != nil || m.PublicCIDR == "" || m.PublicCIDR == r.cfg.PublicCIDR {
		return nil
	}
	return errs.Conflictf("the external network of this cloud is %s, not %s: start it with --public-cidr %s", m.PublicCIDR, r.cfg.PublicCIDR, m.PublicCIDR)
}
