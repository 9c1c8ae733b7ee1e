package names

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ttl is dockerd's, in seconds.
const ttl = 600

// answer answers what is about containers; nil when a question is about something else.
func (t *Table) answer(members []Member, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	question := q.Question[0]
	name := strings.TrimSuffix(question.Name, ".")
	hdr := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	switch question.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		addrs, ok := t.find(members, name)
		if !ok {
			return nil
		}
		addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.Is4() != (question.Qtype == dns.TypeA) })
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		for _, a := range addrs {
			if a.Is4() {
				m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: a.AsSlice()})
			} else {
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
			}
		}
		return m
	case dns.TypeMX: // none, which makes mail go to the address
		if _, ok := t.find(members, name); ok {
			return m
		}
	case dns.TypePTR:
		a, ok := arpa(name)
		if !ok {
			return nil
		}
		host, ok := t.reverse(members, a)
		if !ok {
			return nil
		}
		m.Answer = []dns.RR{&dns.PTR{Hdr: hdr, Ptr: dns.Fqdn(host)}}
		return m
	}
	return nil
}

// arpa reads the address of a name below in-addr.arpa or ip6.arpa.
func arpa(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if host, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(host, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	host, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(host) != 63 {
		return netip.Addr{}, false
	}
	digits := strings.Split(host, ".")
	slices.Reverse(digits)
	raw, err := hex.DecodeString(strings.Join(digits, ""))
	if err != nil || len(raw) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(raw)), true
}
