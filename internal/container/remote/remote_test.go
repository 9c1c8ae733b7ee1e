package remote

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func TestDomain(t *testing.T) {
	for in, want := range map[string]string{"": hubHost, "https://index.docker.io/v1/": hubHost, "docker.io": hubHost, "127.0.0.1:5000": "127.0.0.1:5000", "https://r.example/v2/": "r.example", "://": ""} {
		if got, err := domain(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
}

// door lets one user in.
func door(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user == "u" && password == "p" {
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="door"`)
	w.WriteHeader(http.StatusUnauthorized)
}

func TestLogin(t *testing.T) {
	plain, secure := httptest.NewServer(http.HandlerFunc(door)), httptest.NewTLSServer(http.HandlerFunc(door))
	defer plain.Close()
	defer secure.Close()
	r := New(t.Context(), filepath.Join(t.TempDir(), "none"), nil)
	for _, s := range []*httptest.Server{plain, secure} {
		host := s.Listener.Addr().String()
		if _, err := r.Login(t.Context(), host, Credentials{User: "u", Password: "p"}); err != nil {
			t.Errorf("%s: %v", s.URL, err)
		}
		if _, err := r.Login(t.Context(), host, Credentials{User: "u", Password: "wrong"}); !errs.Is(err, errs.Unauthenticated) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s, with a wrong password: %v", s.URL, err)
		}
	}
}

// TestAuthority reaches a registry under a name that only the region's authority vouches for.
func TestAuthority(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(door))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "ca.crt")
	r := New(t.Context(), file, nil)
	get := func() error {
		c, err := r.client("example.com") // the name in httptest's certificate
		if err != nil {
			return err
		}
		tr := c.Transport.(*http.Transport).Clone()
		defer tr.CloseIdleConnections()
		tr.TLSClientConfig.ServerName = "example.com"
		res, err := (&http.Client{Transport: tr}).Get(s.URL)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("with the authority: %v", err)
	}
}
