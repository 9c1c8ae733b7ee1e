package balance

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestNote(t *testing.T) {
	c := &check{target: target{monitor: nodeapi.LBMonitor{Rise: 2, Fall: 3}}}
	for i, step := range []struct {
		well, changed bool
		state         string
	}{
		{true, true, nodeapi.LBMemberUp}, // the first decides
		{false, false, nodeapi.LBMemberUp}, {false, false, nodeapi.LBMemberUp}, {true, false, nodeapi.LBMemberUp},
		{false, false, nodeapi.LBMemberUp}, {false, false, nodeapi.LBMemberUp}, {false, true, nodeapi.LBMemberDown},
		{true, false, nodeapi.LBMemberDown}, {false, false, nodeapi.LBMemberDown}, {true, false, nodeapi.LBMemberDown}, {true, true, nodeapi.LBMemberUp},
	} {
		if changed := c.note(step.well); changed != step.changed || c.state() != step.state {
			t.Fatalf("step %d: changed %t, %s", i, changed, c.state())
		}
	}
}

func TestExpected(t *testing.T) {
	for codes, want := range map[string]bool{"200": false, "204": true, "200, 204": true, "200-204": true, "200-203": false, "": false} {
		if expected(codes, 204) != want {
			t.Errorf("%q: %t", codes, !want)
		}
	}
}

// TestChecks looks at servers on the loopback device.
func TestChecks(t *testing.T) {
	needs.Root(t, "entering a namespace")
	ns, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var seen *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen = r.Clone(r.Context()); r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := netip.MustParseAddrPort(udp.LocalAddr().String())
	once := func(at netip.AddrPort, m nodeapi.LBMonitor) error {
		m.Timeout = 1
		return (&check{ns: ns, target: target{monitor: m, addr: at.Addr(), port: int(at.Port())}}).once(t.Context())
	}
	web := func(path, codes, version, domain string) nodeapi.LBMonitor {
		return nodeapi.LBMonitor{Type: "HTTP", Method: "GET", Path: path, Codes: codes, HTTPVersion: version, Domain: domain}
	}
	if err := once(at, nodeapi.LBMonitor{Type: "TCP"}); err != nil {
		t.Errorf("TCP: %v", err)
	}
	if err := once(at, web("/healthz", "200", "", "")); err != nil || seen.ProtoMinor != 0 {
		t.Errorf("HTTP: %v, 1.%d", err, seen.ProtoMinor)
	}
	if err := once(at, web("/healthz", "200", "1.1", "www.example.org")); err != nil || seen.Host != "www.example.org" || seen.ProtoMinor != 1 {
		t.Errorf("HTTP 1.1: %v, %+v", err, seen)
	}
	if err := once(at, web("/other", "200-299", "", "")); err == nil {
		t.Error("a 404 is fine")
	}
	for _, kind := range []string{"HTTPS", "TLS-HELLO"} {
		if err := once(at, nodeapi.LBMonitor{Type: kind, Method: "GET", Path: "/healthz", Codes: "200"}); err == nil {
			t.Errorf("%s: a server without TLS is fine", kind)
		}
	}
	safe := httptest.NewTLSServer(srv.Config.Handler)
	defer safe.Close()
	secure := netip.MustParseAddrPort(safe.Listener.Addr().String())
	if err := once(secure, nodeapi.LBMonitor{Type: "TLS-HELLO"}); err != nil {
		t.Errorf("TLS-HELLO: %v", err)
	}
	if err := once(secure, nodeapi.LBMonitor{Type: "HTTPS", Method: "GET", Path: "/healthz", Codes: "200"}); err != nil || seen.TLS == nil {
		t.Errorf("HTTPS: %v", err)
	}
	if err := once(secure, nodeapi.LBMonitor{Type: "HTTPS", Method: "GET", Path: "/other", Codes: "200"}); err == nil {
		t.Error("HTTPS: a 404 is fine")
	}
	if err := once(at, nodeapi.LBMonitor{Type: "PING"}); err != nil {
		t.Errorf("PING: %v", err)
	}
	if err := once(quiet, nodeapi.LBMonitor{Type: "UDP-CONNECT"}); err != nil {
		t.Errorf("UDP: %v", err)
	}
	udp.Close()
	srv.Close()
	if err := once(quiet, nodeapi.LBMonitor{Type: "UDP-CONNECT"}); err == nil {
		t.Error("UDP to nobody is fine")
	}
	if err := once(at, nodeapi.LBMonitor{Type: "TCP"}); err == nil {
		t.Error("TCP to nobody is fine")
	}
}
