package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// TestMetadata hands a guest's password to the control plane, once it is the guest
// of a server here.
func TestMetadata(t *testing.T) {
	h := newHands(t)
	a, err := New(Options{ID: "n", Control: h, Machines: h, Plane: h, Log: slog.New(slog.DiscardHandler), CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	post := func(id string) int {
		w := httptest.NewRecorder()
		a.Metadata(t.Context(), id, w, httptest.NewRequest(http.MethodPost, "http://169.254.169.254/openstack/latest/password", strings.NewReader("abc=")))
		return w.Code
	}
	if code := post("s1"); code != http.StatusNotFound {
		t.Errorf("a stranger is answered with %d", code)
	}
	a.wanted["s1"] = &nodeapi.Instance{ID: "s1"}
	if code := post("s1"); code != http.StatusOK || h.count("password of s1: abc=") != 1 {
		t.Errorf("%d, %v", code, h.calls)
	}
	a.wanted["s1"] = &nodeapi.Instance{ID: "s1", Guest: nodeapi.GuestConfig{Password: "abc="}}
	if code := post("s1"); code != http.StatusConflict || len(h.calls) != 1 {
		t.Errorf("again: %d, %v", code, h.calls)
	}
}
