package podnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/dataplane/nft"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// What load balancers send that leave clients' addresses as they are has to be answered by
// way of them, whoever the client is: connections are marked by the MAC that they came from,
// and answers take the mark's table.
const (
	originMask     = 0xffff0000
	originPriority = 30900      // of rules, before the machine's own tables
	originTables   = 0x57000000 // the first table
)

// originMark is what remains of a load balancer's address, in the upper half.
func originMark(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]) << 16
}

// declareOrigins marks connections and their answers.
func declareOrigins(t nft.Table, device string, w *nodeapi.KubeWorker) {
	t.Declare("balancers", "type ether_addr : mark")
	for _, b := range w.Balancers {
		if b.Transparent {
			t.AddElement("balancers", b.MAC, fmt.Sprintf("%#x", originMark(b.Addr)))
		}
	}
	answer := fmt.Sprintf("ct direction reply ct mark and %#x != 0 meta mark set ct mark and %#x", originMask, originMask)
	t.Chains["origins"] = nft.Chain{Hook: "type filter hook prerouting priority -150; policy accept", Rules: []string{
		fmt.Sprintf("iifname %q ct state new ct mark set ether saddr map @balancers", device),
		fmt.Sprintf("iifname %q %s", podPrefix+"*", answer),
	}}
	t.Chains["origins-here"] = nft.Chain{Hook: "type route hook output priority -150; policy accept", Rules: []string{answer}}
}

// declareExposed has the machine and its pods reach the cluster's load balancers at the VIP,
// also by their floating IP: the way by that leads out of the machine and in again somewhere
// else. kube-proxy leaves these addresses alone (ipMode Proxy), since this may be the machine that
// clients from outside come by.
func declareExposed(t nft.Table, w *nodeapi.KubeWorker) {
	t.Declare("exposed", "type ipv4_addr : ipv4_addr")
	for _, b := range w.Balancers {
		if b.Floating.Is4() {
			t.AddElement("exposed", b.Floating.String(), b.Addr.String())
		}
	}
	t.Chains["exposed-pods"] = nft.Chain{Hook: "type nat hook prerouting priority -101; policy accept", Rules: []string{fmt.Sprintf("iifname %q dnat ip to ip daddr map @exposed", podPrefix+"*")}}
	t.Chains["exposed-here"] = nft.Chain{Hook: "type nat hook output priority -101; policy accept", Rules: []string{"dnat ip to ip daddr map @exposed"}}
}

// originRules are the rules of this kind that the machine has for a family.
func originRules(h *netlink.Handle, family int) ([]netlink.Rule, error) {
	all, err := h.RuleList(family)
	if family == unix.AF_INET6 && errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil // the machine has no IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("rules of routing: %w", err)
	}
	all = slices.DeleteFunc(all, func(r netlink.Rule) bool { return r.Priority != originPriority || r.Table&^0xffff != originTables })
	for i := range all {
		all[i].Family = family
	}
	return all, nil
}

// ensureOrigins has answers to load balancers leave by way of them.
func (l *live) ensureOrigins(h *netlink.Handle, device netlink.Link, list []nodeapi.KubeBalancer) error {
	ways := map[int]map[uint32]netip.Addr{unix.AF_INET: {}, unix.AF_INET6: {}}
	for _, b := range list {
		if !b.Transparent {
			continue
		}
		ways[unix.AF_INET][originMark(b.Addr)] = b.Addr
		if b.Addr6.IsValid() {
			ways[unix.AF_INET6][originMark(b.Addr)] = b.Addr6
		}
	}
	var errs []error
	for family, by := range ways {
		errs = append(errs, ensureWays(h, device, family, by))
	}
	return errors.Join(errs...)
}

// ensureWays is that for one family, whose marks leave by these addresses.
func ensureWays(h *netlink.Handle, device netlink.Link, family int, by map[uint32]netip.Addr) error {
	rules, err := originRules(h, family)
	if err != nil {
		return err
	}
	want := map[int]bool{}
	for mark, at := range by {
		table := originTables | int(mark>>16)
		want[table] = true
		// An address that a user has chosen elsewhere is still reached by this device alone.
		err := h.RouteReplace(&netlink.Route{LinkIndex: device.Attrs().Index, Family: family, Gw: at.AsSlice(), Flags: int(netlink.FLAG_ONLINK), Table: table, Protocol: protocol})
		if err != nil {
			return fmt.Errorf("the way back by %s: %w", at, err)
		}
		if slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == table }) {
			continue
		}
		r, mask := netlink.NewRule(), uint32(originMask)
		r.Family, r.Priority, r.Table, r.Mark, r.Mask = family, originPriority, table, mark, &mask
		if err := h.RuleAdd(r); err != nil {
			return fmt.Errorf("the rule for %s: %w", at, err)
		}
	}
	for _, r := range rules {
		if !want[r.Table] {
			err = errors.Join(err, dropOrigin(h, r))
		}
	}
	return err
}

// dropOrigin removes a rule and its table.
func dropOrigin(h *netlink.Handle, r netlink.Rule) error {
	if err := h.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	routes, err := h.RouteListFiltered(r.Family, &netlink.Route{Table: r.Table}, netlink.RT_FILTER_TABLE)
	for _, x := range routes {
		if e := h.RouteDel(&x); e != nil && !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// clearOrigins removes all of them.
func (l *live) clearOrigins() error {
	h, err := l.cfg.Host.Link()
	if err != nil {
		return err
	}
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := originRules(h, family)
		errs = append(errs, err)
		for _, r := range rules {
			errs = append(errs, dropOrigin(h, r))
		}
	}
	return errors.Join(errs...)
}
