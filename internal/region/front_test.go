package region

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/strata-cloud/strata/internal/rest"
)

func TestFront(t *testing.T) {
	said := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	h := front(said(http.StatusTeapot), said(http.StatusAccepted), said(http.StatusGone), said(http.StatusPaymentRequired), rest.NewMetrics())
	for path, want := range map[string]int{
		"/": 200, "/healthz": 200, "/compute/v2.1": http.StatusTeapot, "/metrics": 404, // not from elsewhere
		"/v2/": http.StatusGone, "/v2/p/web/manifests/latest": http.StatusGone,
		"/docker/_ping": http.StatusPaymentRequired, "/docker/v1.47/images/127.0.0.1:5000/demo/web/json": http.StatusPaymentRequired,
		"/console/vnc.html": http.StatusAccepted, "/console/websockify?token=x": http.StatusAccepted,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
