package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// region is a registry that mirrors some domains.
type region struct {
	*httptest.Server
	domains []string
	err     error
	asked   []string
}

func (r *region) Mirrors(context.Context) ([]string, error) { return r.domains, r.err }

func (r *region) DialMirror(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", r.Listener.Addr().String())
}

const mirroredManifest = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`

func giveManifest(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	w.Header().Set("Docker-Content-Digest", digest.FromString(mirroredManifest).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(mirroredManifest)))
	fmt.Fprint(w, mirroredManifest)
}

// TestMirrorOfRegion asks the region first, and the registry itself for what the region
// has not, does not mirror, or cannot be asked for.
func TestMirrorOfRegion(t *testing.T) {
	direct := 0
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		direct++
		giveManifest(w)
	}))
	defer origin.Close()
	host := origin.Listener.Addr().String()
	for what, c := range map[string]struct {
		domains []string
		err     error
		name    string
		asks    int
		direct  bool
	}{
		"what it has":              {domains: []string{host}, name: "has/it", asks: 1},
		"what it has not":          {domains: []string{host}, name: "has/not", asks: 1, direct: true},
		"what it cannot bring":     {domains: []string{host}, name: "is/away", asks: 1, direct: true},
		"another registry's":       {domains: []string{"docker.io"}, name: "has/it", direct: true},
		"while the region is away": {domains: []string{host}, err: errors.New("away"), name: "has/it", direct: true},
		"of a region without any":  {name: "has/it", direct: true},
	} {
		r := &region{domains: c.domains, err: c.err}
		r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			r.asked = append(r.asked, q.URL.String())
			switch {
			case strings.Contains(q.URL.Path, "has/it"):
				giveManifest(w)
			case strings.Contains(q.URL.Path, "is/away"):
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
			if q.Header.Get("Authorization") != "" {
				t.Errorf("%s: the region was shown the credentials of another registry", what)
			}
		}))
		direct = 0
		reg := New(t.Context(), filepath.Join(t.TempDir(), "none"), r)
		_, desc, err := reg.Resolver(Credentials{User: "u", Password: "p"}, nil).Resolve(t.Context(), host+"/"+c.name+":1")
		if err != nil || desc.Digest != digest.FromString(mirroredManifest) {
			t.Errorf("%s: %v, %v", what, desc, err)
		}
		if len(r.asked) != c.asks || direct > 0 != c.direct {
			t.Errorf("%s: the region was asked for %v, the registry %d times", what, r.asked, direct)
		}
		for _, q := range r.asked {
			if !strings.Contains(q, "ns="+strings.Replace(host, ":", "%3A", 1)) {
				t.Errorf("%s: %s does not say whose it is", what, q)
			}
		}
		r.Close()
	}
}
