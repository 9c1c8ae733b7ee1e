package volume

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/saga"
)

// asked runs fn in a request of another service's API, as compute's older routes do,
// and gives its error's kind; -1 for none.
func (w *world) asked(who string, fn func(context.Context, *rest.Request) error) errs.Kind {
	w.t.Helper()
	rules, err := policy.New("", Policies(), []policy.Rule{{Name: "elsewhere", Check: "@"}})
	if err != nil {
		w.t.Fatal(err)
	}
	kind := errs.Kind(-1)
	h, err := (&rest.Kit{Auth: tokens{}, Policy: rules, Log: slog.New(slog.DiscardHandler), Metrics: rest.NewMetrics()}).Handler(&rest.API{Name: "elsewhere", Prefix: "/elsewhere", Family: rest.ComputeFaults(),
		Routes: []rest.Route{{Method: "GET", Path: "/x", Policy: "elsewhere", Handle: func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
			if err := fn(ctx, r); err != nil {
				kind = errs.KindOf(err)
			}
			return rest.Empty(200), nil
		}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/elsewhere/x", nil)
	req.Header.Set("X-Auth-Token", who)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		w.t.Fatalf("%s: %d %s", who, rec.Code, rec.Body)
	}
	return kind
}

func (w *world) wantAsked(what, who string, want errs.Kind, fn func(context.Context, *rest.Request) error) {
	w.t.Helper()
	if got := w.asked(who, fn); got != want {
		w.t.Errorf("%s by %s: kind %d, want %d", what, who, got, want)
	}
}

// TestServerVolumes holds what compute's older API does to this service's own view and rules.
func TestServerVolumes(t *testing.T) {
	const fine = errs.Kind(-1)
	w := newWorld(t, saga.Options{}).start()
	name := "mine"
	var v *ServerVolume
	create := func(n ServerVolume) func(context.Context, *rest.Request) error {
		return func(ctx context.Context, r *rest.Request) (err error) {
			v, err = w.svc.CreateServerVolume(ctx, r, n)
			return err
		}
	}
	w.wantAsked("create", "reader", errs.Forbidden, create(ServerVolume{SizeGiB: 1}))
	w.wantAsked("create of nothing", "owner", errs.Invalid, create(ServerVolume{}))
	w.wantAsked("create", "owner", fine, create(ServerVolume{Name: &name, SizeGiB: 2, Metadata: map[string]string{"a": "b"}}))
	w.settled()
	id := v.ID
	if own := w.do("owner", "3.0", "GET", "/volumes/"+id, "").want(200).in("volume"); own["name"] != "mine" || own["size"] != 2.0 || own["status"] != "available" {
		t.Errorf("the volume is %v", own)
	}
	get := func(_ context.Context, r *rest.Request) (err error) {
		v, err = w.svc.GetServerVolume(t.Context(), r, id)
		return err
	}
	w.wantAsked("get", "other", errs.NotFound, get)
	w.wantAsked("get", "reader", fine, get)
	if v.SizeGiB != 2 || v.Metadata["a"] != "b" || v.Server != "" || *v.Name != "mine" {
		t.Errorf("shown as %+v", v)
	}
	for who, n := range map[string]int{"owner": 1, "other": 0} {
		w.wantAsked("list", who, fine, func(ctx context.Context, r *rest.Request) error {
			list, err := w.svc.ListServerVolumes(ctx, r)
			if len(list) != n {
				t.Errorf("%s lists %v", who, list)
			}
			return err
		})
	}
	var x *ServerSnapshot
	snap := func(ctx context.Context, r *rest.Request) (err error) {
		x, err = w.svc.CreateServerSnapshot(ctx, r, ServerSnapshot{VolumeID: id, Name: &name}, false)
		return err
	}
	w.wantAsked("snapshot", "other", errs.NotFound, snap)
	w.wantAsked("snapshot", "reader", errs.Forbidden, snap)
	w.wantAsked("snapshot", "owner", fine, snap)
	w.settled()
	w.do("owner", "3.0", "GET", "/snapshots/"+x.ID, "").want(200)
	drop := func(ctx context.Context, r *rest.Request) error { return w.svc.DeleteServerVolume(ctx, r, id) }
	w.wantAsked("delete", "other", errs.NotFound, drop)
	w.wantAsked("delete with a snapshot", "owner", errs.Invalid, drop)
	unsnap := func(ctx context.Context, r *rest.Request) error { return w.svc.DeleteServerSnapshot(ctx, r, x.ID) }
	w.wantAsked("delete of the snapshot", "reader", errs.Forbidden, unsnap)
	w.wantAsked("delete of the snapshot", "owner", fine, unsnap)
	w.settled()
	w.wantAsked("get of the snapshot", "owner", errs.NotFound, func(ctx context.Context, r *rest.Request) error {
		_, err := w.svc.GetServerSnapshot(ctx, r, x.ID)
		return err
	})
	w.wantAsked("delete", "owner", fine, drop)
	w.settled()
	w.wantAsked("get", "owner", errs.NotFound, get)
	w.clean(t)
}
