package cluster

import (
	"crypto/sha256"
	"net/netip"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
)

// The networks inside of a cluster, and the labels that choose others (magnum's guide to
// labels: service_cluster_ip_range and flannel_network_cidr with their defaults). Either may
// name a second network, of IPv6, as upstream's flags do; upstream's Magnum knows none.
const (
	podsLabel       = "flannel_network_cidr"
	defaultPods     = "10.100.0.0/16"
	servicesLabel   = "service_cluster_ip_range"
	defaultServices = "10.254.0.0/16"

	// dualLabel has pods and services have IPv6 as well, in networks of our choice.
	dualLabel = "ipv6_enabled"
)

// innerNetworks has one network of each, or two: the second is of IPv6.
type innerNetworks struct{ pods, services []netip.Prefix }

// networksOf are the networks that labels choose for a cluster; without its id those of IPv6
// are an example.
func networksOf(l Labels, cluster string) (*innerNetworks, error) {
	pods, err := innerOf(l, podsLabel, defaultPods, [2]int{8, 23}, [2]int{64, 64}) // each node has a /24 of it
	if err != nil {
		return nil, err
	}
	services, err := innerOf(l, servicesLabel, defaultServices, [2]int{8, 24}, [2]int{108, 120})
	if err != nil {
		return nil, err
	}
	n := &innerNetworks{pods, services}
	if err := n.second(l, cluster); err != nil {
		return nil, err
	}
	for i := range n.pods {
		if n.pods[i].Overlaps(n.services[i]) {
			return nil, overlap(n.pods[i], n.services[i])
		}
	}
	return n, nil
}

// second completes the networks of IPv6 if there are to be any.
func (n *innerNetworks) second(l Labels, cluster string) error {
	named := len(n.pods)+len(n.services) > 2
	wanted, err := boolOf(dualLabel, l[dualLabel])
	if err != nil {
		return err
	}
	if _, said := l[dualLabel]; said && named && !wanted {
		return errs.Invalidf("The label %s says that there is no IPv6, and %s or %s names a network of it.", dualLabel, podsLabel, servicesLabel)
	}
	if !named && !wanted {
		return nil
	}
	pods, services := localNetworks(cluster)
	if len(n.pods) == 1 {
		n.pods = append(n.pods, pods)
	}
	if len(n.services) == 1 {
		n.services = append(n.services, services)
	}
	return nil
}

// localNetworks are unique local ones for a cluster's pods and services: its own /48, which is
// made of its id (RFC 4193, 3.2). They are not recorded, so that they must stay what they are.
func localNetworks(cluster string) (pods, services netip.Prefix) {
	sum := sha256.Sum256([]byte("networks of cluster " + cluster))
	a := [16]byte{0: 0xfd}
	copy(a[1:6], sum[:])
	pods = netip.PrefixFrom(netip.AddrFrom16(a), 64)
	a[7] = 1
	return pods, netip.PrefixFrom(netip.AddrFrom16(a), 108) // the largest that kube-apiserver takes
}

// innerOf is what a label chooses: a network of IPv4, and perhaps one of IPv6 after a comma,
// of least to most bits.
func innerOf(l Labels, label, otherwise string, bits, bits6 [2]int) ([]netip.Prefix, error) {
	text := otherwise
	if v, ok := l[label]; ok {
		if text, ok = v.(string); !ok {
			return nil, errs.Invalidf("The label %s is no network.", label)
		}
	}
	first, second, two := strings.Cut(text, ",")
	p, ok := prefixOf(first, bits)
	if !ok || !p.Addr().Is4() {
		return nil, errs.Invalidf("The label %s is %q, and no IPv4 network of a /%d to a /%d.", label, text, bits[0], bits[1])
	}
	if !two {
		return []netip.Prefix{p}, nil
	}
	six, ok := prefixOf(second, bits6)
	if !ok || !six.Addr().Is6() || six.Addr().Is4In6() || !six.Addr().IsGlobalUnicast() {
		return nil, errs.Invalidf("The label %s is %q, whose second network is no IPv6 network of a /%d to a /%d.", label, text, bits6[0], bits6[1])
	}
	return []netip.Prefix{p, six}, nil
}

func prefixOf(text string, bits [2]int) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(strings.TrimSpace(text))
	return p, err == nil && p == p.Masked() && p.Bits() >= bits[0] && p.Bits() <= bits[1]
}
