package dns

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func TestReverse(t *testing.T) {
	for _, addr := range []string{"10.1.2.3", "fd00:1::f816:3eff:fe01:10a", "::1"} {
		name, err := dns.ReverseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := reverse(name); !ok || got != netip.MustParseAddr(addr) {
			t.Errorf("%s reads as %s, %v", name, got, ok)
		}
	}
	for _, name := range []string{"in-addr.arpa.", "1.0.10.in-addr.arpa.", "x.1.0.10.in-addr.arpa.", "1.ip6.arpa.", "vm."} {
		if got, ok := reverse(name); ok {
			t.Errorf("%s reads as %s", name, got)
		}
	}
}

func TestWithoutResolvers(t *testing.T) {
	s := &Server{Log: slog.New(slog.DiscardHandler)}
	q := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	if _, ours := Answer(segment.New(nodeapi.Network{ID: "n"}, nil), q); ours {
		t.Error("the world's name is taken for ours")
	}
	if m := s.forward(q, "udp"); m.Rcode != dns.RcodeRefused || m.Id != q.Id {
		t.Errorf("answer is %v", m)
	}
}

// from is a client that has an answer.
type from struct {
	dns.ResponseWriter
	addr   net.Addr
	answer *dns.Msg
}

func (f *from) RemoteAddr() net.Addr      { return f.addr }
func (f *from) WriteMsg(m *dns.Msg) error { f.answer = m; return nil }

// TestBeside has names of another network be known to who is on it as well, and aliases
// be names.
func TestBeside(t *testing.T) {
	port := func(net, name, addr string, aliases ...string) *nodeapi.Port {
		return &nodeapi.Port{ID: net + name, NetworkID: net, DNSName: name, Aliases: aliases, FixedIPs: []nodeapi.FixedIP{{Addr: netip.MustParseAddr(addr)}}}
	}
	front := segment.New(nodeapi.Network{ID: "front"}, []*nodeapi.Port{port("front", "web", "10.0.0.2", "shop_web_1", "a.dotted.one")})
	back := segment.New(nodeapi.Network{ID: "back"}, []*nodeapi.Port{port("back", "store", "10.0.1.2", "db"), port("back", "other", "10.0.1.3", "DB")})
	both := netip.MustParseAddr("10.0.0.2")
	s := &Server{Log: slog.New(slog.DiscardHandler), View: func() *segment.Segment { return front }, Beside: func(a netip.Addr) []*segment.Segment {
		if a == both {
			return []*segment.Segment{back}
		}
		return nil
	}}
	for _, c := range []struct {
		asker, name string
		want        int // addresses
		code        int
	}{
		{"10.0.0.2", "web.", 1, dns.RcodeSuccess}, {"10.0.0.2", "shop_web_1.", 1, dns.RcodeSuccess}, {"10.0.0.2", "a.dotted.one.", 1, dns.RcodeSuccess}, {"10.0.0.2", "Shop_Web_1.openstacklocal.", 1, dns.RcodeSuccess},
		{"10.0.0.2", "db.", 2, dns.RcodeSuccess}, {"10.0.0.2", "db.openstacklocal.", 2, dns.RcodeSuccess}, {"10.0.0.2", "nobody.openstacklocal.", 0, dns.RcodeNameError},
		{"10.0.0.9", "db.", 0, dns.RcodeRefused}, {"10.0.0.9", "db.openstacklocal.", 0, dns.RcodeNameError}, {"10.0.0.9", "web.", 1, dns.RcodeSuccess},
	} {
		f := &from{addr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.asker), 5353))}
		s.serve(f, new(dns.Msg).SetQuestion(c.name, dns.TypeA))
		if len(f.answer.Answer) != c.want || f.answer.Rcode != c.code {
			t.Errorf("%s asks for %s: %v", c.asker, c.name, f.answer)
		}
	}
}
