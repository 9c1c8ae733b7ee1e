package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
)

// protocols are the names that rules may use (neutron-lib's IP_PROTOCOL_MAP).
var protocols = map[string]int{
	"ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4,
	"ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43,
	"ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}

func direction(v any) (any, error) {
	s, ok := v.(string)
	if l := strings.ToLower(s); ok && (l == ingress || l == egress) {
		return l, nil
	}
	return nil, fmt.Errorf("'%s' is not in ['ingress', 'egress']", attr.Text(v))
}

func etherType(v any) (any, error) {
	for _, e := range []string{ipv4, ipv6} {
		if s, ok := v.(string); ok && strings.EqualFold(s, e) {
			return e, nil
		}
	}
	return nil, errs.Invalidf("Security group rule for ethertype '%s' not supported. Allowed values are ['IPv4', 'IPv6']", attr.Text(v))
}

// protocol accepts a known name or a number from 0 to 255; "any" is none.
func protocol(v any) (any, error) {
	s := strings.ToLower(attr.Text(v))
	if s == "any" || s == "" {
		return "", nil
	}
	if _, ok := protocols[s]; ok {
		return s, nil
	}
	if n, ok := attr.Whole(v); ok && n >= 0 && n <= 255 {
		return strconv.Itoa(n), nil
	}
	return nil, errs.Coded(errs.Invalid, "SecurityGroupRuleInvalidProtocol", "Security group rule protocol %s not supported. Only protocol values [ah, dccp, egp, esp, gre, icmp, icmpv6, igmp, ipip, ipv6-encap, ipv6-frag, ipv6-icmp, ipv6-nonxt, ipv6-opts, ipv6-route, ospf, pgm, rsvp, sctp, tcp, udp, udplite, vrrp] and integer representations [0 to 255] are supported.", attr.Text(v))
}

func portNumber(v any) (any, error) {
	n, ok := attr.Whole(v)
	if !ok || n < 0 || n > 65535 {
		return nil, errsBad("SecurityGroupInvalidPortValue", "Invalid value for port %s", attr.Text(v))
	}
	return n, nil
}

// remotePrefix accepts an address or a prefix, with host bits.
func remotePrefix(v any) (any, error) {
	s, _ := v.(string)
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return nil, fmt.Errorf("'%s' is not a valid CIDR", attr.Text(v))
}

// number is the protocol's number, -1 for any; icmp means ICMPv6 in an IPv6 rule.
func (r *SecurityRule) number() int {
	if r.Protocol == "" {
		return -1
	}
	n, ok := protocols[r.Protocol]
	if !ok {
		n, _ = strconv.Atoi(r.Protocol)
	}
	if n == 1 && r.EtherType == ipv6 {
		return 58
	}
	return n
}

// withPorts are the protocols that have port numbers.
var withPorts = []int{6, 17, 33, 132, 136}

// checkRule holds a rule's parts together (neutron/db/securitygroups_db.py).
func checkRule(r *SecurityRule) error {
	if r.Remote.IsValid() && r.Remote.Addr().Is4() != (r.EtherType == ipv4) {
		return errsBad("SecurityGroupRuleParameterConflict", "Conflicting value ethertype %s for CIDR %s", r.EtherType, r.Remote)
	}
	n := r.number()
	if (n == 58 || n >= 41 && n <= 44 || n == 59 || n == 60) && r.EtherType == ipv4 && r.Protocol != "41" {
		return errsBad("SecurityGroupEthertypeConflictWithProtocol", "Invalid ethertype %s for protocol %s.", r.EtherType, r.Protocol)
	}
	if r.PortMin == nil && r.PortMax == nil {
		return nil
	}
	switch {
	case n == -1:
		return errsBad("SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	case n == 1 || n == 58:
		return checkICMP(r)
	case slices.Contains(withPorts, n):
		if r.PortMin == nil || r.PortMax == nil || *r.PortMin > *r.PortMax || *r.PortMin == 0 {
			return errsBad("SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
		}
		return nil
	}
	return errsBad("SecurityGroupInvalidProtocolForPort", "Invalid protocol %s for port range, only supported for TCP, UDP, UDPLITE, SCTP and DCCP.", r.Protocol)
}

func checkICMP(r *SecurityRule) error {
	if r.PortMin == nil {
		return errsBad("SecurityGroupMissingIcmpType", "ICMP code (port-range-max) %d is provided but ICMP type (port-range-min) is missing.", *r.PortMax)
	}
	for field, n := range map[string]*int{"type": r.PortMin, "code": r.PortMax} {
		if n != nil && *n > 255 {
			return errsBad("SecurityGroupInvalidIcmpValue", "Invalid value for ICMP %s (port-range) %d. It must be 0 to 255.", field, *n)
		}
	}
	return nil
}

func sameRule(a, b *SecurityRule) bool {
	return a.Direction == b.Direction && a.EtherType == b.EtherType && a.number() == b.number() && sameInt(a.PortMin, b.PortMin) &&
		sameInt(a.PortMax, b.PortMax) && a.RemoteGroup == b.RemoteGroup && a.Remote.Masked() == b.Remote.Masked()
}

func sameInt(a, b *int) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
