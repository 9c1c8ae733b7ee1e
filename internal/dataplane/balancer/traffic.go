package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// States of TCP connections in the kernel's tracking (enum tcp_conntrack).
const (
	tcpSynSent = 1
	tcpLastAck = 6
)

// Busy counts the connections of members and of listeners, by id.
func (b *Balancer) Busy(lb *nodeapi.LoadBalancer) (map[string]int, error) {
	type end struct {
		protocol uint8
		at       netip.AddrPort
	}
	members, listeners := map[end][]string{}, map[end]string{}
	for _, p := range lb.Pools {
		for _, m := range p.Members {
			e := end{number(p.Protocol), netip.AddrPortFrom(m.Addr, uint16(m.Port))}
			members[e] = append(members[e], m.ID)
		}
	}
	for _, l := range lb.Listeners {
		for _, a := range lb.Port.Addrs {
			listeners[end{number(l.Protocol), netip.AddrPortFrom(a.Addr(), uint16(l.Port))}] = l.ID
		}
	}
	out := map[string]int{}
	flows, err := tracked(b.NS)
	for _, f := range flows {
		if s, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && s.State > tcpLastAck {
			continue // it has ended
		}
		l, ok := listeners[end{f.Forward.Protocol, addrPort(f.Forward.DstIP, f.Forward.DstPort)}]
		if !ok {
			continue // a check of ours
		}
		out[l]++
		for _, m := range members[end{f.Forward.Protocol, addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)}] {
			out[m]++
		}
	}
	return out, err
}

func number(protocol string) uint8 {
	if protocol == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

func addrPort(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

func tracked(ns *netns.NS) (out []*netlink.ConntrackFlow, err error) {
	err = ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("opening conntrack in %s: %w", ns.Name, err)
		}
		defer h.Close()
		var errs []error
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			list, err := h.ConntrackTableList(netlink.ConntrackTable, family)
			out, errs = append(out, list...), append(errs, err)
		}
		return errors.Join(errs...)
	})
	return out, err
}

// lost selects what is tracked to members that are no more to be had: flows of UDP, which
// would go on there for ever, and connections that nobody has answered.
type lost map[netip.AddrPort]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (l lost) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if !l[addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)] {
		return false
	}
	s, tcp := f.ProtoInfo.(*netlink.ProtoInfoTCP)
	return f.Forward.Protocol == unix.IPPROTO_UDP || tcp && s.State == tcpSynSent
}

// Forget has the next packets of such flows find another member.
func (b *Balancer) Forget(members ...nodeapi.LBMember) error {
	l := lost{}
	for _, m := range members {
		l[netip.AddrPortFrom(m.Addr, uint16(m.Port))] = true
	}
	if len(l) == 0 {
		return nil
	}
	return b.NS.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("opening conntrack in %s: %w", b.NS.Name, err)
		}
		defer h.Close()
		_, err4 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, l)
		_, err6 := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, l)
		return errors.Join(err4, err6)
	})
}

// counted is a rule's counter in nft's JSON.
type counted struct {
	Comment string `json:"comment"`
	Expr    []struct {
		Counter *struct {
			Packets uint64 `json:"packets"`
			Bytes   uint64 `json:"bytes"`
		} `json:"counter"`
	} `json:"expr"`
}

// Traffic reads the counters of listeners, by id. Rules that were written anew count from
// zero; what they had counted when they were last read is not lost.
func (b *Balancer) Traffic(ctx context.Context) (map[string]nodeapi.LBTraffic, error) {
	raw, err := nft.ListTable(ctx, b.NS, "inet", tableName)
	if err != nil {
		return nil, err
	}
	var list struct {
		Nftables []struct {
			Rule *counted `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("what nft lists of %s: %w", b.NS.Name, err)
	}
	out := map[string]nodeapi.LBTraffic{}
	for _, x := range list.Nftables {
		if x.Rule == nil || x.Rule.Comment == "" {
			continue
		}
		what, listener, _ := strings.Cut(x.Rule.Comment, " ")
		for _, e := range x.Rule.Expr {
			if e.Counter == nil {
				continue
			}
			n := e.Counter.Packets
			if what == "in" || what == "out" {
				n = e.Counter.Bytes
			}
			t := out[listener]
			switch sum := int64(b.sum(x.Rule.Comment, n)); what {
			case "in":
				t.BytesIn = sum
			case "out":
				t.BytesOut = sum
			case "new":
				t.Total = sum
			case "err":
				t.Errors = sum
			}
			out[listener] = t
		}
	}
	return out, nil
}

func (b *Balancer) sum(counter string, n uint64) uint64 {
	if last := b.last[counter]; n >= last {
		b.sums[counter] += n - last
	} else {
		b.sums[counter] += n
	}
	b.last[counter] = n
	return b.sums[counter]
}
