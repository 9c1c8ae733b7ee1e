package configdrive

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func TestPassword(t *testing.T) {
	whole := strings.Repeat("x", MaxPassword)
	for name, tc := range map[string]struct {
		path, body, has string
		keeps           error
		status          int
		kept            string
	}{
		"kept":            {path: "/openstack/latest/password", body: "abc=", status: 200, kept: "abc="},
		"in a version":    {path: "/openstack/2013-04-04//password", body: whole, status: 200, kept: whole},
		"too old":         {path: "/openstack/2012-08-10/password", body: "a", status: 405},
		"too large":       {path: "/openstack/latest/password", body: whole + "x", status: 400},
		"no text":         {path: "/openstack/latest/password", body: "\xff", status: 400},
		"there":           {path: "/openstack/latest/password", body: "b", has: "a", status: 409},
		"there meanwhile": {path: "/openstack/latest/password", body: "b", keeps: errs.Conflictf("it has one"), status: 409, kept: "b"},
		"not kept":        {path: "/openstack/latest/password", body: "b", keeps: errors.New("a secret reason"), status: 503, kept: "b"},
		"elsewhere":       {path: "/latest/password", body: "a", status: 405},
	} {
		inst, kept := instance(), ""
		inst.Guest.Password = tc.has
		w := httptest.NewRecorder()
		Serve(w, httptest.NewRequest(http.MethodPost, "http://169.254.169.254"+tc.path, strings.NewReader(tc.body)), inst,
			func(p string) error { kept = p; return tc.keeps })
		if w.Code != tc.status || kept != tc.kept || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %q, kept %d bytes", name, w.Code, w.Body, len(kept))
		}
	}
	inst := instance()
	inst.Guest.Password = "abc="
	if code, body, _ := get(t, inst, "/openstack/latest/password"); code != 200 || body != "abc=" {
		t.Errorf("%d %q", code, body)
	}
	docs, err := Documents(inst)
	if err != nil {
		t.Fatal(err)
	}
	for path, doc := range docs {
		if strings.HasSuffix(path, "/password") || strings.Contains(string(doc), "abc=") {
			t.Errorf("the config drive has the password in %s", path)
		}
	}
}
