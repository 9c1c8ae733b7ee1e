package tokenreview

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

type reviewer struct{}

func (reviewer) ReviewToken(_ context.Context, cluster, token string) (*nodeapi.KubeUser, error) {
	switch token {
	case "good":
		return &nodeapi.KubeUser{Name: "me", UID: "1", Groups: []string{cluster}, Extra: map[string][]string{"k": {"v"}}}, nil
	case "away":
		return nil, errs.New(errs.Unavailable, "no leader")
	}
	return nil, errs.New(errs.Unauthenticated, "no")
}

// TestReview asks as the API server does, and as others.
func TestReview(t *testing.T) {
	set, err := authority.New("one")
	if err != nil {
		t.Fatal(err)
	}
	issue := func(l authority.Leaf) *authority.Pair {
		p, err := set.Cluster.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	server := issue(authority.Leaf{Name: "x", Hosts: []string{"127.0.0.1"}, Server: true})
	s := New(reviewer{}, slog.New(slog.DiscardHandler))
	defer s.Close()
	e := Endpoint{Addr: addr, Cert: server.Cert, Key: server.Key, CA: set.Cluster.Cert, Client: "api"}
	for range 2 { // a repetition changes nothing
		if err := s.Ensure("c1", e); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(set.Cluster.Cert)
	ask := func(client, path, body string) (int, string, error) {
		conf := &tls.Config{RootCAs: pool}
		if client != "" {
			p := issue(authority.Leaf{Name: client, Client: true})
			pair, err := tls.X509KeyPair(p.Cert, p.Key)
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		res, err := h.Post("https://"+addr+path, "application/json", strings.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		return res.StatusCode, strings.TrimSpace(string(raw)), err
	}
	of := func(token string) string {
		return `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"` + token + `","audiences":["a"]}}`
	}
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/c1", of("good"), 200, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"me","uid":"1","groups":["c1"],"extra":{"k":["v"]}}}}`},
		{"/c1", of("bad"), 200, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":false}}`},
		{"/c1", of("away"), 503, "nobody can say what the token is worth: no leader"},
		{"/c1", `{"kind":"TokenReview"}`, 400, "this takes a TokenReview of authentication.k8s.io/v1"},
		{"/c2", of("good"), 404, "404 page not found"},
	} {
		if status, got, err := ask("api", c.path, c.body); err != nil || status != c.status || got != c.want {
			t.Errorf("%s: %d %s, %v; want %d %s", c.body, status, got, err, c.status, c.want)
		}
	}
	for _, who := range []string{"", "system:admin"} {
		if status, got, err := ask(who, "/c1", of("good")); err == nil {
			t.Errorf("%q is told %d %s", who, status, got)
		}
	}
	s.Remove("c1")
	if _, _, err := ask("api", "/c1", of("good")); err == nil {
		t.Error("it answers after its end")
	}
}
