// Package dns is the name server of one network. It knows the ports of that
// network, by name and by address, and asks the host's resolvers for the rest.
// Nothing of one network is visible in another.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/segment"
	"github.com/strata-cloud/strata/internal/netns"
)

const (
	ttl            = 60 // seconds: addresses move with servers
	forwardTimeout = 3 * time.Second
	maxForwards    = 128 // at a time, of one network
)

// Server answers on port 53 of every address of a namespace.
type Server struct {
	View func() *segment.Segment
	// Beside are the other networks of a container that asks, which finds names there,
	// too: it asks but one server; nil: there are none.
	Beside    func(asker netip.Addr) []*segment.Segment
	NS        *netns.NS
	Resolvers []string // host:port, asked from the host's namespace
	Log       *slog.Logger

	udp, tcp *dns.Server
	slots    chan struct{}
	done     chan struct{}
}

// Start opens the sockets; from then on questions are answered until Close.
func (s *Server) Start(ctx context.Context) error {
	lc := net.ListenConfig{Control: reuse}
	var pc net.PacketConn
	var l net.Listener
	err := s.NS.Do(func() (err error) {
		if pc, err = lc.ListenPacket(ctx, "udp", ":53"); err != nil {
			return err
		}
		if l, err = lc.Listen(ctx, "tcp", ":53"); err != nil {
			pc.Close()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listening for DNS: %w", err)
	}
	s.slots, s.done = make(chan struct{}, maxForwards), make(chan struct{}, 2)
	started := make(chan struct{}, 2)
	h := dns.HandlerFunc(s.serve)
	note := func() { started <- struct{}{} }
	s.udp = &dns.Server{PacketConn: pc, Handler: h, NotifyStartedFunc: note}
	s.tcp = &dns.Server{Listener: l, Handler: h, NotifyStartedFunc: note, MaxTCPQueries: 64}
	for _, srv := range []*dns.Server{s.udp, s.tcp} {
		go func() {
			if err := srv.ActivateAndServe(); err != nil {
				s.Log.Error("DNS listener ended", "err", err)
				note()
			}
			s.done <- struct{}{}
		}()
	}
	<-started // a server that has not started cannot be shut down
	<-started
	return nil
}

// Close stops the server and waits for its loops.
func (s *Server) Close() error {
	if s.udp == nil {
		return nil
	}
	err := errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
	<-s.done
	<-s.done
	return err
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	answer, ours := Answer(s.View(), q)
	if (!ours || answer.Rcode == dns.RcodeNameError) && s.Beside != nil {
		for _, seg := range s.Beside(asker(w)) {
			if a, known := Answer(seg, q); known && a.Rcode == dns.RcodeSuccess {
				answer, ours = a, true
				break
			}
		}
	}
	if !ours {
		answer = s.forward(q, w.RemoteAddr().Network())
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		answer.Truncate(size)
	}
	if err := w.WriteMsg(answer); err != nil {
		s.Log.Debug("answering DNS", "err", err)
	}
}

// asker is the address that a question came from.
func asker(w dns.ResponseWriter) netip.Addr {
	at, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// Answer answers a question about the network itself; ours is false when it is
// about something else.
func Answer(seg *segment.Segment, q *dns.Msg) (answer *dns.Msg, ours bool) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeNotImplemented
		return m, true
	}
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	if addr, ok := reverse(name); ok {
		return answerReverse(seg, m, question, addr)
	}
	host := strings.TrimSuffix(name, ".")
	domain := "." + seg.Domain()
	inside := strings.HasSuffix(host, domain) || host == domain[1:]
	host = strings.TrimSuffix(host, domain)
	addrs := seg.ByName(host)
	if !inside && strings.Contains(host, ".") && len(addrs) == 0 {
		return nil, false
	}
	if len(addrs) == 0 {
		if !inside {
			return nil, false
		}
		m.Authoritative = true
		if host != domain[1:] {
			m.Rcode = dns.RcodeNameError
		}
		return m, true
	}
	m.Authoritative = true
	for _, a := range addrs {
		if rr := record(question, a); rr != nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m, true
}

func record(q dns.Question, a netip.Addr) dns.RR {
	hdr := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
	any := q.Qtype == dns.TypeANY
	switch {
	case a.Is4() && (any || q.Qtype == dns.TypeA):
		hdr.Rrtype = dns.TypeA
		return &dns.A{Hdr: hdr, A: a.AsSlice()}
	case a.Is6() && (any || q.Qtype == dns.TypeAAAA):
		hdr.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()}
	}
	return nil
}

// answerReverse answers for addresses of the network's subnets. Private ones
// that are not here are never asked of the world (RFC 6303).
func answerReverse(seg *segment.Segment, m *dns.Msg, q dns.Question, addr netip.Addr) (*dns.Msg, bool) {
	if p := seg.ByAddr(addr); p != nil && (q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY) {
		m.Authoritative = true
		m.Answer = append(m.Answer, &dns.PTR{
			Hdr: dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl, Rrtype: dns.TypePTR},
			Ptr: dns.Fqdn(segment.Hostname(p, addr) + "." + seg.Domain()),
		})
		return m, true
	}
	if !addr.IsPrivate() && !addr.IsLinkLocalUnicast() && !addr.IsLoopback() {
		return nil, false
	}
	m.Rcode = dns.RcodeNameError
	return m, true
}

// reverse reads in-addr.arpa and ip6.arpa names of whole addresses.
func reverse(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for n, i := 0, 62; i >= 0; n, i = n+1, i-2 {
		if n > 0 && n%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteByte(rest[i])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}

// forward asks the resolvers in turn. Without one the name cannot be known here.
func (s *Server) forward(q *dns.Msg, network string) *dns.Msg {
	m := new(dns.Msg)
	if len(s.Resolvers) == 0 {
		return m.SetRcode(q, dns.RcodeRefused)
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default: // one network cannot use the host up
		return m.SetRcode(q, dns.RcodeServerFailure)
	}
	client := dns.Client{Net: network, Timeout: forwardTimeout}
	for _, resolver := range s.Resolvers {
		answer, _, err := client.Exchange(q.Copy(), resolver)
		if err == nil {
			answer.Id = q.Id
			return answer
		}
		s.Log.Debug("forwarding DNS", "resolver", resolver, "err", err)
	}
	return m.SetRcode(q, dns.RcodeServerFailure)
}

func reuse(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(cerr, err)
}
