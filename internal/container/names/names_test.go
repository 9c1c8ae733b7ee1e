package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// world is two networks: web is on both, two containers are called api on one.
func world(s *Server) {
	s.Table.Set("net1", Entry{ID: "e1", Names: []string{"web", "www", "0123456789ab"}, Addrs: addrs("10.0.1.2", "fd00:1::2")})
	s.Table.Set("net1", Entry{ID: "e2", Names: []string{"api_1", "api"}, Addrs: addrs("10.0.1.3")})
	s.Table.Set("net1", Entry{ID: "e3", Names: []string{"api_2", "api"}, Addrs: addrs("10.0.1.4")})
	s.Table.Set("net2", Entry{ID: "e4", Names: []string{"web"}, Addrs: addrs("10.0.2.2")})
	s.Table.Set("net2", Entry{ID: "e5", Names: []string{"a.b"}, Addrs: addrs("10.0.2.3")})
}

var (
	one  = Member{Network: "net1", Name: "front"}
	two  = Member{Network: "net2", Name: "back.end"}
	with = Member{Network: "net1", Name: "front", Links: map[string]string{"db": "api_2", "www": "api_1"}}
)

// ports are one of UDP and the same one of TCP, which may be another's.
func ports(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		if pc.Close(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// start gives a resolver of a container and how to ask it.
func start(t testing.TB, s *Server, v View) func(network, name string, kind uint16) *dns.Msg {
	pc, l := ports(t)
	r := s.Start(context.WithoutCancel(t.Context()), pc, l, func() View { return v }, new(net.Dialer).DialContext)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(network, name string, kind uint16) *dns.Msg {
		t.Helper()
		q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
		a, _, err := (&dns.Client{Net: network}).Exchange(q, pc.LocalAddr().String())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return a
	}
}

func to(list ...Upstream) func() []Upstream { return func() []Upstream { return list } }

// told is an answer in short: its code when that is not NOERROR, and the records' data.
func told(a *dns.Msg) string {
	var out []string
	for _, rr := range a.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	if a.Rcode != dns.RcodeSuccess {
		out = append(out, dns.RcodeToString[a.Rcode])
	}
	return strings.Join(out, " ")
}

// upstream knows example.org and nothing else.
func upstream(t testing.TB) (addr string, asked func() []string) {
	pc, l := ports(t)
	var mu sync.Mutex
	var questions []string
	asked = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(questions)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		questions = append(questions, q.Question[0].Name+" "+w.RemoteAddr().Network())
		mu.Unlock()
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name != "example.org." {
			m.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeTXT {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"hello"}})
		} else {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 7)})
		}
		w.WriteMsg(m)
	})
	ready := make(chan struct{}, 2)
	note := func() { ready <- struct{}{} }
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: h, NotifyStartedFunc: note}, {Listener: l, Handler: h, NotifyStartedFunc: note}} {
		go srv.ActivateAndServe()
		t.Cleanup(func() { srv.Shutdown() })
	}
	<-ready
	<-ready
	return pc.LocalAddr().String(), asked
}

func TestAnswers(t *testing.T) {
	s := NewServer(slog.New(slog.DiscardHandler))
	world(s)
	up, _ := upstream(t)
	ask := start(t, s, View{Members: []Member{one, two}, Outside: true, Upstreams: to(Upstream{Addr: up, Host: true})})
	linked := start(t, s, View{Members: []Member{with}, Outside: true})
	for _, c := range []struct {
		from func(network, name string, kind uint16) *dns.Msg
		name string
		kind uint16
		want string
	}{
		{ask, "web", dns.TypeA, "10.0.1.2"},
		{ask, "WEB", dns.TypeA, "10.0.1.2"},
		{ask, "web", dns.TypeAAAA, "fd00:1::2"},
		{ask, "0123456789ab", dns.TypeA, "10.0.1.2"},
		{ask, "api", dns.TypeA, "10.0.1.3 10.0.1.4"},
		{ask, "api", dns.TypeAAAA, ""},
		{ask, "web.front", dns.TypeA, "10.0.1.2"},
		{ask, "web.back.end", dns.TypeA, "10.0.2.2"},
		{ask, "a.b", dns.TypeA, "10.0.2.3"},
		{ask, "a.b.back.end", dns.TypeA, "10.0.2.3"},
		{ask, "api.back.end", dns.TypeA, "NXDOMAIN"},
		{ask, "nobody", dns.TypeA, "NXDOMAIN"},
		{ask, "web", dns.TypeMX, ""},
		{ask, "2.1.0.10.in-addr.arpa", dns.TypePTR, "web.front."},
		{ask, "3.2.0.10.in-addr.arpa", dns.TypePTR, "a.b.back.end."},
		{ask, "9.1.0.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		{ask, "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, "web.front."},
		{ask, "example.org", dns.TypeA, "192.0.2.7"},
		{ask, "example.org", dns.TypeTXT, `"hello"`},
		{linked, "db", dns.TypeA, "10.0.1.4"},
		{linked, "www", dns.TypeA, "10.0.1.3"},
		{linked, "web", dns.TypeA, "10.0.1.2"},
		{linked, "nobody", dns.TypeA, "SERVFAIL"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := told(c.from(network, c.name, c.kind)); got != c.want {
				t.Errorf("%s %s over %s: %q, want %q", c.name, dns.TypeToString[c.kind], network, got, c.want)
			}
		}
	}
}

// TestForward sees which questions leave, and where to.
func TestForward(t *testing.T) {
	s := NewServer(slog.New(slog.DiscardHandler))
	world(s)
	up, asked := upstream(t)
	dead, err := net.ListenPacket("udp", "127.0.0.1:0") // whose port answers with an ICMP error once it is closed
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	inside := start(t, s, View{Members: []Member{one}, Upstreams: to(Upstream{Addr: up, Host: true})})
	if got := told(inside("udp", "example.org", dns.TypeA)); got != "SERVFAIL" || len(asked()) != 0 {
		t.Errorf("from an internal network: %q, asked %v", got, asked())
	}
	given := start(t, s, View{Members: []Member{one}, Upstreams: to(Upstream{Addr: up})})
	if got := told(given("udp", "example.org", dns.TypeA)); got != "192.0.2.7" {
		t.Errorf("by a server of its own: %q", got)
	}
	dots := start(t, s, View{Members: []Member{one}, Outside: true, Dots: true, Upstreams: to(Upstream{Addr: up, Host: true})})
	before := len(asked())
	if got := told(dots("udp", "nobody", dns.TypeA)); got != "" || len(asked()) != before {
		t.Errorf("without a dot: %q, asked %v", got, asked())
	}
	second := start(t, s, View{Outside: true, Upstreams: to(Upstream{Addr: dead.LocalAddr().String(), Host: true}, Upstream{Addr: up, Host: true})})
	if got := told(second("tcp", "example.org", dns.TypeA)); got != "192.0.2.7" || asked()[before] != "example.org. tcp" {
		t.Errorf("when the first server is dead: %q, asked %v", got, asked())
	}
}

// TestChanges follows a container that comes, is renamed, and goes.
func TestChanges(t *testing.T) {
	s := NewServer(slog.New(slog.DiscardHandler))
	world(s)
	find := func(name string) string { a, ok := s.Table.find([]Member{one}, name); return fmt.Sprint(a, ok) }
	s.Table.Set("net1", Entry{ID: "e2", Names: []string{"other", "api"}, Addrs: addrs("10.0.1.9")})
	if find("api_1") != "[] false" || find("other") != "[10.0.1.9] true" || find("api") != "[10.0.1.4 10.0.1.9] true" {
		t.Errorf("renamed: %s, %s, %s", find("api_1"), find("other"), find("api"))
	}
	if got := s.Table.Reverse("net1", netip.MustParseAddr("10.0.1.3")); got != "" {
		t.Errorf("the old address is %q", got)
	}
	s.Table.Remove("net1", "e3")
	s.Table.Remove("net1", "e3")
	s.Table.Remove("nothing", "e3")
	if find("api") != "[10.0.1.9] true" {
		t.Errorf("one has gone: %s", find("api"))
	}
	for _, id := range []string{"e1", "e2"} {
		s.Table.Remove("net1", id)
	}
	if len(s.Table.nets) != 1 {
		t.Errorf("an empty network is kept: %v", s.Table.nets)
	}
}

// TestTruncate sends a client with small buffers to TCP.
func TestTruncate(t *testing.T) {
	s := NewServer(slog.New(slog.DiscardHandler))
	for i := range 100 {
		s.Table.Set("net1", Entry{ID: fmt.Sprint(i), Names: []string{"many"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}})
	}
	ask := start(t, s, View{Members: []Member{one}})
	if a := ask("udp", "many", dns.TypeA); !a.Truncated || len(a.Answer) == 0 || len(a.Answer) > 40 {
		t.Errorf("over UDP: truncated %v, %d addresses", a.Truncated, len(a.Answer))
	}
	if a := ask("tcp", "many", dns.TypeA); a.Truncated || len(a.Answer) != 100 {
		t.Errorf("over TCP: truncated %v, %d addresses", a.Truncated, len(a.Answer))
	}
}

// TestCloseDoesNotWait ends a resolver whose question no one answers.
func TestCloseDoesNotWait(t *testing.T) {
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	s := NewServer(slog.New(slog.DiscardHandler))
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := Upstream{Addr: mute.LocalAddr().String(), Host: true}
	r := s.Start(context.WithoutCancel(t.Context()), pc, l, func() View { return View{Outside: true, Upstreams: to(up, up, up)} }, nil)
	c, err := net.Dial("udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q, err := new(dns.Msg).SetQuestion("example.org.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mute.ReadFrom(make([]byte, 512)); err != nil { // it waits for the answer now
		t.Fatal(err)
	}
	begun := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > forwardTimeout/2 {
		t.Errorf("closing took %s", took)
	}
}

func TestRefuses(t *testing.T) {
	r := &Resolver{server: NewServer(slog.New(slog.DiscardHandler)), ctx: t.Context(), view: func() View { return View{} }, dial: func(context.Context, string, string) (net.Conn, error) { panic("dialled") }}
	for _, q := range []*dns.Msg{{}, {MsgHdr: dns.MsgHdr{Opcode: dns.OpcodeUpdate}, Question: []dns.Question{{Name: "a.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}},
		{Question: []dns.Question{{Name: "a."}, {Name: "b."}}}} {
		if a := r.resolve("udp", q); a.Rcode != dns.RcodeNotImplemented {
			t.Errorf("%v: %v", q, a)
		}
	}
}

func FuzzArpa(f *testing.F) {
	f.Add("2.1.0.10.in-addr.arpa")
	f.Fuzz(func(t *testing.T, name string) {
		if a, ok := arpa(name); ok && !a.IsValid() {
			t.Errorf("%q: %v", name, a)
		}
	})
}

// BenchmarkAnswer is a question about one of 1,000 containers, without the sockets.
func BenchmarkAnswer(b *testing.B) {
	s := NewServer(slog.New(slog.DiscardHandler))
	for i := range 1000 {
		s.Table.Set("net1", Entry{ID: fmt.Sprint(i), Names: []string{fmt.Sprint("c", i), fmt.Sprintf("%012x", i)}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	r := &Resolver{server: s, view: func() View { return View{Members: []Member{one}} }, ctx: b.Context()}
	q := new(dns.Msg).SetQuestion("c500.", dns.TypeA)
	for b.Loop() {
		if a := r.resolve("udp", q); len(a.Answer) != 1 {
			b.Fatal(a)
		}
	}
}
