package directory

import (
	"context"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// drop is one step of a deletion.
type drop func(tx *store.Tx) error

// dropBatch bounds a transaction.
const dropBatch = 60

// txDrop deletes a record that may be gone already.
func txDrop[T any](tx *store.Tx, c *store.Collection[T], id string) error {
	if err := c.TxDelete(tx, id); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	return nil
}

// dropsOf makes a step of each record.
func dropsOf[T any](list []*T, c *store.Collection[T], id func(*T) string) []drop {
	var out []drop
	for _, x := range list {
		out = append(out, func(tx *store.Tx) error { return txDrop(tx, c, id(x)) })
	}
	return out
}

// run does the steps in order, the last with the last batch.
func (d *Directory) run(ctx context.Context, steps []drop) error {
	for at := 0; at < len(steps); at += dropBatch {
		batch := steps[at:min(at+dropBatch, len(steps))]
		err := d.Write(ctx, func(tx *store.Tx) error {
			for _, f := range batch {
				if err := f(tx); err != nil {
					return err
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

func (d *Directory) assignmentDrops(index, value string) []drop {
	return dropsOf(d.Assignments.By(index, value), d.Assignments, (*Assignment).ID)
}

func appCredID(a *AppCred) string { return a.ID }

// DeleteUser deletes a user and all that is its own, and voids its tokens.
func (d *Directory) DeleteUser(ctx context.Context, id string) error {
	return d.run(ctx, d.userDrops(id))
}

func (d *Directory) userDrops(id string) []drop {
	steps := d.assignmentDrops("actor", "u:"+id)
	steps = append(steps, dropsOf(d.Members.By("user", id), d.Members, (*Member).ID)...)
	steps = append(steps, dropsOf(d.AppCreds.By("user", id), d.AppCreds, appCredID)...)
	steps = append(steps, dropsOf(d.AccessRules.By("user", id), d.AccessRules, func(a *AccessRule) string { return a.ID })...)
	steps = append(steps, dropsOf(d.Credentials.By("user", id), d.Credentials, func(c *Credential) string { return c.ID })...)
	steps = append(steps, dropsOf(d.Trusts.By("user", id), d.Trusts, func(t *Trust) string { return t.ID })...)
	return append(steps, func(tx *store.Tx) error {
		if err := d.TxRevoke(tx, Revocation{UserID: id}); err != nil {
			return err
		}
		return d.Users.TxDelete(tx, id)
	})
}

// DeleteGroup deletes a group, its memberships and its assignments.
func (d *Directory) DeleteGroup(ctx context.Context, id string) error {
	return d.run(ctx, d.groupDrops(id))
}

func (d *Directory) groupDrops(id string) []drop {
	steps := d.assignmentDrops("actor", "g:"+id)
	steps = append(steps, dropsOf(d.Members.By("group", id), d.Members, (*Member).ID)...)
	return append(steps, func(tx *store.Tx) error { return d.Groups.TxDelete(tx, id) })
}

// DeleteRole deletes a role everywhere it is given or implied.
func (d *Directory) DeleteRole(ctx context.Context, id string) error {
	return d.run(ctx, d.roleDrops(id))
}

func (d *Directory) roleDrops(id string) []drop {
	steps := d.assignmentDrops("role", id)
	steps = append(steps, dropsOf(d.Implied.By("prior", id), d.Implied, (*Implied).ID)...)
	steps = append(steps, dropsOf(d.Implied.By("role", id), d.Implied, (*Implied).ID)...)
	return append(steps, func(tx *store.Tx) error { return d.Roles.TxDelete(tx, id) })
}

// DeleteProjects deletes projects (children before parents) with all that is theirs.
func (d *Directory) DeleteProjects(ctx context.Context, ids ...string) error {
	var steps []drop
	for _, id := range ids {
		steps = append(steps, d.projectDrops(id)...)
	}
	return d.run(ctx, steps)
}

func (d *Directory) projectDrops(id string) []drop {
	steps := d.assignmentDrops("target", "p:"+id)
	steps = append(steps, dropsOf(d.AppCreds.By("project", id), d.AppCreds, appCredID)...)
	steps = append(steps, dropsOf(d.Credentials.By("project", id), d.Credentials, func(c *Credential) string { return c.ID })...)
	steps = append(steps, dropsOf(d.Trusts.By("project", id), d.Trusts, func(t *Trust) string { return t.ID })...)
	steps = append(steps, dropsOf(d.Limits.By("project", id), d.Limits, func(l *Limit) string { return l.ID })...)
	steps = append(steps, d.linkDrops("project", id)...)
	for _, u := range d.Users.By("default", id) {
		steps = append(steps, func(tx *store.Tx) error {
			_, err := d.Users.TxUpdate(tx, u.ID, func(u *User) error { u.DefaultProjectID = ""; return nil })
			return err
		})
	}
	return append(steps, func(tx *store.Tx) error {
		if err := d.TxRevoke(tx, Revocation{ProjectID: id}); err != nil {
			return err
		}
		return d.Projects.TxDelete(tx, id)
	})
}

// DeleteDomain deletes a domain, which must be disabled, with all that is in it.
func (d *Directory) DeleteDomain(ctx context.Context, id string) error {
	p, err := d.Projects.Get(id)
	if err != nil || !p.IsDomain {
		return errs.NotFoundf("Could not find domain: %s.", id)
	}
	if p.Enabled {
		return errs.Forbiddenf("Cannot delete a domain that is enabled, please disable it first.")
	}
	var steps []drop
	for _, g := range d.Groups.By("domain", id) {
		steps = append(steps, d.groupDrops(g.ID)...)
	}
	for _, u := range d.Users.By("domain", id) {
		steps = append(steps, d.userDrops(u.ID)...)
	}
	below := d.Descendants(id)
	for i := len(below) - 1; i >= 0; i-- {
		steps = append(steps, d.projectDrops(below[i].ID)...)
	}
	for _, r := range d.Roles.By("domain", id) {
		steps = append(steps, d.roleDrops(r.ID)...)
	}
	steps = append(steps, d.assignmentDrops("target", "d:"+id)...)
	steps = append(steps, dropsOf(d.Limits.By("domain", id), d.Limits, func(l *Limit) string { return l.ID })...)
	steps = append(steps, func(tx *store.Tx) error { return d.Projects.TxDelete(tx, id) })
	return d.run(ctx, steps)
}

// DeleteService deletes a service and its endpoints.
func (d *Directory) DeleteService(ctx context.Context, id string) error {
	var steps []drop
	for _, e := range d.Endpoints.By("service", id) {
		steps = append(steps, d.endpointDrops(e.ID)...)
	}
	return d.run(ctx, append(steps, func(tx *store.Tx) error { return d.Services.TxDelete(tx, id) }))
}

// DeleteTrust deletes a trust with those redelegated from it and voids its tokens.
func (d *Directory) DeleteTrust(ctx context.Context, id string) error {
	return d.run(ctx, d.trustDrops(id))
}

func (d *Directory) trustDrops(id string) []drop {
	var steps []drop
	for _, t := range d.Trusts.By("parent", id) {
		steps = append(steps, d.trustDrops(t.ID)...)
	}
	return append(steps, func(tx *store.Tx) error {
		if err := d.TxRevoke(tx, Revocation{TrustID: id}); err != nil {
			return err
		}
		return d.Trusts.TxDelete(tx, id)
	})
}

// Expired tells whether an optional instant has passed.
func Expired(at *time.Time, now time.Time) bool { return at != nil && !now.Before(*at) }
