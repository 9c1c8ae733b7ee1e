package identity

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkAuthenticate is what every API pays for a request with a known token.
func BenchmarkAuthenticate(b *testing.B) {
	c := newCloud(b)
	tok := c.demo()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.svc.Authenticate(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolve is the same for a token that is not in the cache.
func BenchmarkResolve(b *testing.B) {
	c := newCloud(b)
	tok := c.demo()
	b.ReportAllocs()
	for b.Loop() {
		c.svc.cache = newSubjectCache()
		if _, err := c.svc.Authenticate(b.Context(), tok); err != nil {
			b.Fatal(err)
		}
	}
}

// over8 sends requests from 8 clients and reports how many per second are answered.
func over8(b *testing.B, status int, request func() *http.Request) {
	tr := &http.Transport{MaxIdleConnsPerHost: 8}
	defer tr.CloseIdleConnections()
	b.SetParallelism((8 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := tr.RoundTrip(request())
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != status {
				b.Errorf("got %d", resp.StatusCode)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkValidateHTTP is GET /v3/auth/tokens with the catalog, 8 clients, the
// clients on the same cores.
func BenchmarkValidateHTTP(b *testing.B) {
	c := newCloud(b)
	tok := c.admin()
	over8(b, 200, func() *http.Request {
		r, _ := http.NewRequestWithContext(b.Context(), "GET", c.url+"/v3/auth/tokens", nil)
		r.Header.Set("X-Auth-Token", tok)
		r.Header.Set("X-Subject-Token", tok)
		return r
	})
}

// BenchmarkPasswordHTTP is a repeated log-in by password at the default bcrypt
// cost, 8 clients.
func BenchmarkPasswordHTTP(b *testing.B) {
	c := newCloud(b, func(o *Options) { o.BcryptCost = 0 })
	body := byPassword("demo", "demo-pw", inDemo)
	over8(b, 201, func() *http.Request {
		r, _ := http.NewRequestWithContext(b.Context(), "POST", c.url+"/v3/auth/tokens", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		return r
	})
}
