package compute

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/saga"
)

func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, "http://cloud.example/compute/v2.1"+path, strings.NewReader(body))
	r.Header.Set("X-Auth-Token", "member")
	r.Header.Set("OpenStack-API-Version", "compute 2.96")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// BenchmarkListDetail lists 500 servers, each with a port of a fixed and a floating address.
func BenchmarkListDetail(b *testing.B) {
	w := newWorld(b, saga.Options{})
	h := w.handler()
	f, err := w.svc.flavors.Get("42")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 500 {
		v := &Server{ID: uuid.NewString(), Name: fmt.Sprintf("s-%d", i), ProjectID: project1, UserID: "u1", VMState: Active, Flavor: *f, Image: Image{ID: imageID}, Host: "node-1",
			Created: wire.Now().Add(time.Duration(i) * time.Second), Updated: wire.Now(), DiskConfig: "MANUAL", Metadata: map[string]string{"a": "b"}}
		if err := w.svc.servers.Create(b.Context(), v); err != nil {
			b.Fatal(err)
		}
		p := w.nets.newPort(uuid.NewString(), project1)
		p.DeviceID = v.ID
		p.Floating = map[netip.Addr]netip.Addr{p.FixedIPs[0].Addr: netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}
		w.nets.byServer[v.ID] = []Port{*p}
	}
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request("GET", "/servers/detail", ""))
		if rec.Code != 200 || rec.Body.Len() < 500*500 {
			b.Fatalf("%d, %d bytes", rec.Code, rec.Body.Len())
		}
	}
}

// BenchmarkCreate is the request alone: until the server and its saga are committed.
func BenchmarkCreate(b *testing.B) {
	w := newWorld(b, saga.Options{})
	if err := w.svc.quotas.Set(b.Context(), project1, map[string]int{"instances": -1, "cores": -1, "ram": -1}); err != nil {
		b.Fatal(err)
	}
	h := w.handler()
	b.ReportAllocs()
	for b.Loop() {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request("POST", "/servers", createText("n", "")))
		if rec.Code != 202 {
			b.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
}
