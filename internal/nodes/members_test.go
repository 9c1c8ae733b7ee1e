package nodes

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

func newRegistry(t *testing.T) *Registry {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := New(db)
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := newRegistry(t), t.Context()
		for _, life := range []time.Duration{0, -time.Second, MaxTokenLife + 1} {
			if _, err := r.NewToken(ctx, life); !errs.Is(err, errs.Invalid) {
				t.Errorf("a token for %s: %v", life, err)
			}
		}
		token, err := r.NewToken(ctx, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		id, secret, _ := strings.Cut(token, ".")
		for _, bad := range []string{"", ".", id, id + ".", id + "." + strings.ToUpper(secret), "0000000000000000." + secret, token + "0"} {
			if err := r.CheckToken(bad); !errs.Is(err, errs.Unauthenticated) {
				t.Errorf("token %q: %v", bad, err)
			}
		}
		if err := r.CheckToken(token); err != nil {
			t.Error(err)
		}
		if kept, err := r.Tokens.Get(id); err != nil || strings.Contains(string(kept.Hash), secret) {
			t.Errorf("%v, %v", kept, err)
		}
		<-time.After(2 * time.Minute) // of the bubble's clock
		if err := r.CheckToken(token); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("an expired token: %v", err)
		}
		if _, err := r.NewToken(ctx, time.Minute); err != nil || len(r.Tokens.All()) != 1 {
			t.Errorf("expired tokens stay: %v, %v", r.Tokens.All(), err)
		}
	})
}

func TestMembers(t *testing.T) {
	r, ctx := newRegistry(t), t.Context()
	for _, name := range []string{"", "Upper", "under_score", "-a", "a-", "a..b", "../etc", strings.Repeat("a", 64)} {
		if err := r.Join(ctx, Member{ID: name}); !errs.Is(err, errs.Invalid) {
			t.Errorf("node %q: %v", name, err)
		}
	}
	if err := r.Admit("beta"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a stranger: %v", err)
	}
	if err := r.Join(ctx, Member{ID: "beta.example"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Join(ctx, Member{ID: "beta.example"}); !errs.Is(err, errs.Conflict) {
		t.Errorf("the name again: %v", err)
	}
	if err := r.Admit("beta.example"); err != nil {
		t.Error(err)
	}
	inst := nodeapi.Instance{ID: "i", Node: "beta.example"}
	if err := r.Instances.Create(ctx, &inst); err != nil {
		t.Fatal(err)
	}
	if err := r.Leave(ctx, "beta.example"); !errs.Is(err, errs.Conflict) {
		t.Errorf("leaving with a server: %v", err)
	}
	if err := r.Instances.Delete(ctx, "i"); err != nil {
		t.Fatal(err)
	}
	if err := r.Leave(ctx, "beta.example"); err != nil {
		t.Fatal(err)
	}
	if err := r.Leave(ctx, "beta.example"); !errs.Is(err, errs.NotFound) {
		t.Errorf("leaving twice: %v", err)
	}
	if err := r.Admit("beta.example"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("after it left: %v", err)
	}
}

// TestReportRepeated: agents say again and again what they said; that writes nothing.
func TestReportRepeated(t *testing.T) {
	r, ctx := newRegistry(t), t.Context()
	if err := r.Instances.Create(ctx, &nodeapi.Instance{ID: "i", Node: "n", Gen: 1}); err != nil {
		t.Fatal(err)
	}
	report := func(power nodeapi.Power) int64 {
		s := nodeapi.InstanceStatus{ID: "i", Node: "n", Gen: 1, Power: power, Since: time.Now()}
		if err := r.Report(ctx, s); err != nil {
			t.Fatal(err)
		}
		return r.Statuses.Rev("i")
	}
	first := report(nodeapi.PowerRunning)
	if again := report(nodeapi.PowerRunning); again != first {
		t.Errorf("the same status was written again, at %d after %d", again, first)
	}
	if other := report(nodeapi.PowerStopped); other == first {
		t.Error("another status was not written")
	}
}
