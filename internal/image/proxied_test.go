package image

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// asked runs fn in a request of another service's API, as compute's older routes do,
// by the member or the reader of p1 or p2, and gives its error's kind; -1 for none.
func asked(t *testing.T, project, role string, fn func(context.Context, *rest.Request) error) errs.Kind {
	t.Helper()
	rules, err := policy.New("", Policies(), []policy.Rule{{Name: "elsewhere", Check: "@"}})
	if err != nil {
		t.Fatal(err)
	}
	kind := errs.Kind(-1)
	kit := &rest.Kit{Policy: rules, Log: slog.New(slog.DiscardHandler), Metrics: rest.NewMetrics(), Auth: tokens{"me": {UserID: "u", ProjectID: project, Roles: []string{role, "reader"}}}}
	h, err := kit.Handler(&rest.API{Name: "elsewhere", Prefix: "/elsewhere", Family: rest.ComputeFaults(),
		Routes: []rest.Route{{Method: "GET", Path: "/x", Policy: "elsewhere", Handle: func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			if err := fn(ctx, r); err != nil {
				kind = errs.KindOf(err)
			}
			return rest.Empty(200), nil
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/elsewhere/x", nil)
	req.Header.Set("X-Auth-Token", "me")
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, req); rec.Code != http.StatusOK {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	return kind
}

// TestImagesForCompute holds what compute's older API does to this service's own view and rules.
func TestImagesForCompute(t *testing.T) {
	const fine = errs.Kind(-1)
	b := start(t, nil)
	id := b.create("one", `{"name":"x","a":"1"}`)
	b.create("one", `{"name":"hidden","os_hidden":true}`)
	want := func(what, project, role string, kind errs.Kind, fn func(context.Context, *rest.Request) error) {
		t.Helper()
		if got := asked(t, project, role, fn); got != kind {
			t.Errorf("%s by a %s of %s: kind %d, want %d", what, role, project, got, kind)
		}
	}
	for project, n := range map[string]int{"p1": 1, "p2": 0} {
		want("list", project, "reader", fine, func(ctx context.Context, r *rest.Request) error {
			list, err := b.s.List(ctx, r)
			if len(list) != n {
				t.Errorf("%s lists %d images", project, len(list))
			}
			return err
		})
	}
	show := func(ctx context.Context, r *rest.Request) error { _, err := b.s.Show(ctx, r, id); return err }
	want("show", "p1", "reader", fine, show)
	want("show", "p2", "member", errs.NotFound, show)
	edit := func(key, val string) func(context.Context, *rest.Request) error {
		return func(ctx context.Context, r *rest.Request) error {
			_, err := b.s.SetProperties(ctx, r, id, func(m map[string]string) error { clear(m); m[key] = val; return nil })
			return err
		}
	}
	want("edit", "p1", "reader", errs.Forbidden, edit("b", "2"))
	want("edit", "p2", "member", errs.NotFound, edit("b", "2"))
	want("edit of an attribute", "p1", "member", errs.Invalid, edit("name", "2"))
	want("edit of what is ours", "p1", "member", errs.Forbidden, edit("status", "active"))
	want("edit", "p1", "member", fine, edit("b", "2"))
	if v := b.want(200, "one", "GET /images/"+id, ""); v["a"] != nil || v["b"] != "2" || v["name"] != "x" {
		t.Errorf("the image is %v", v)
	}
	drop := func(ctx context.Context, r *rest.Request) error { return b.s.Drop(ctx, r, id) }
	want("delete", "p1", "reader", errs.Forbidden, drop)
	want("delete", "p2", "member", errs.NotFound, drop)
	want("delete", "p1", "member", fine, drop)
	b.want(404, "one", "GET /images/"+id, "")
}
