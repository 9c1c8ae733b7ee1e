package directory

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/strata-cloud/strata/internal/identity/token"
	"github.com/strata-cloud/strata/internal/store"
)

func open(t *testing.T) *Directory {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d := New(db, time.Hour)
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFillURL(t *testing.T) {
	for url, want := range map[string]string{
		"http://x/v1":                  "http://x/v1",
		"http://x/$(project_id)s/y":    "http://x/P/y",
		"http://x/%(tenant_id)s":       "http://x/P",
		"http://x/%(user_id)s%20$":     "http://x/U%20$",
		"http://x/$(secret)s":          "",
		"http://x/$(project_id":        "",
		"http://x/%(project_id)d":      "",
		"http://x/$(project_id)s$(x)s": "",
	} {
		got, ok := FillURL(url, "U", "P")
		if got != want || ok != (want != "") {
			t.Errorf("%s: got %q, %v", url, got, ok)
		}
	}
	if _, ok := FillURL("http://x/$(project_id)s", "U", ""); ok {
		t.Error("an address that needs a project is shown without one")
	}
}

// TestExpandEndsInCircles: whatever implies whatever, each role comes once, and
// what is implied by a result is in the result.
func TestExpandEndsInCircles(t *testing.T) {
	d := open(t)
	names := []string{"a", "b", "c", "d", "e"}
	rapid.Check(t, func(rt *rapid.T) {
		pairs := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Implied {
			return Implied{rapid.SampledFrom(names).Draw(rt, "prior"), rapid.SampledFrom(names).Draw(rt, "role")}
		}), 0, 12).Draw(rt, "rules")
		err := d.Write(context.Background(), func(tx *store.Tx) error {
			for _, old := range d.Implied.All() {
				if err := d.Implied.TxDelete(tx, old.ID()); err != nil {
					return err
				}
			}
			for _, p := range pairs {
				if err := d.Implied.TxPut(tx, &p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		seen := map[string]bool{}
		for _, id := range d.Expand([]string{"a"}) {
			if seen[id] {
				rt.Fatalf("%s comes twice", id)
			}
			seen[id] = true
		}
		for _, p := range pairs {
			if seen[p.Prior] && !seen[p.Role] {
				rt.Fatalf("%s is there and %s is not", p.Prior, p.Role)
			}
		}
	})
}

func TestRevocations(t *testing.T) {
	d := open(t)
	at := time.Now()
	p := func(issued time.Time) *token.Payload {
		return &token.Payload{UserID: "u", Scope: token.Project, ScopeID: "p", TrustID: "t", AuditID: token.NewAuditID(), IssuedAt: issued}
	}
	old := p(at.Add(-time.Minute))
	for name, r := range map[string]Revocation{
		"user": {UserID: "u"}, "project": {ProjectID: "p"}, "trust": {TrustID: "t"}, "audit": {AuditID: token.AuditText(old.AuditID)},
	} {
		if d.Revoked(old) {
			t.Fatalf("%s: void before", name)
		}
		if err := d.Write(t.Context(), func(tx *store.Tx) error { return d.TxRevoke(tx, r) }); err != nil {
			t.Fatal(err)
		}
		if !d.Revoked(old) {
			t.Errorf("%s: not void", name)
		}
		if d.Revoked(p(time.Now().Add(time.Second))) {
			t.Errorf("%s: a later token is void too", name)
		}
		if n, err := d.PurgeRevocations(t.Context(), time.Now()); n != 0 || err != nil {
			t.Errorf("%s: purged %d too early, %v", name, n, err)
		}
		if n, err := d.PurgeRevocations(t.Context(), time.Now().Add(2*time.Hour)); n != 1 || err != nil {
			t.Errorf("%s: purged %d, %v", name, n, err)
		}
	}
}

// TestLargeDomain is more than one transaction can hold.
func TestLargeDomain(t *testing.T) {
	d := open(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.Projects.Create(t.Context(), &Project{ID: "dom", Name: "dom", IsDomain: true}))
	for range 3 * dropBatch {
		u := &User{ID: NewID(), Name: NewID(), DomainID: "dom"}
		must(d.Users.Create(t.Context(), u))
		must(d.Assignments.Create(t.Context(), &Assignment{UserID: u.ID, DomainID: "dom", RoleID: "r"}))
	}
	before := d.Generation()
	must(d.DeleteDomain(t.Context(), "dom"))
	if d.Users.Len()+d.Assignments.Len()+d.Projects.Len() != 0 {
		t.Errorf("left over: %d users, %d assignments", d.Users.Len(), d.Assignments.Len())
	}
	if d.Generation() == before {
		t.Error("caches were not told")
	}
}
