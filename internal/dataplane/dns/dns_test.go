package dns

import (
	"log/slog"
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
