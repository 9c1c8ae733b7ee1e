package services

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
)

// Balancer is a load balancer that is wanted. It has one pool per port, of the same members.
type Balancer struct {
	ID, Cluster, ProjectID string
	Name, Description      string
	NetworkID              string
	SubnetID, SubnetID6    string     // "": the network's only ones
	Address, Address6      netip.Addr // of the VIP; not valid: any
	IPv6                   bool       // the VIP has an address of it, too
	Ports                  []Port
	Allowed                []string // CIDRs; none: everybody
	Limit                  int      // of connections to each port; 0: none
	Algorithm              string
	Sticky                 bool // a client keeps its member
	Transparent            bool // members see the client
	Monitor                *Monitor
	Members                []Member
}

// Port is a port of the VIP and where members have it.
type Port struct {
	Name, Protocol string // TCP or UDP
	Port, NodePort int
}

// Member is a worker, in one IP version. Watched is where it says how it is; not valid: at
// the same address.
type Member struct {
	Name             string
	Address, Watched netip.Addr
}

// Monitor says how members are watched: by HTTP.
type Monitor struct {
	Path                             string
	Port, Delay, Timeout, Rise, Fall int // in seconds, and checks
}

// Floating is a floating IP that is wanted.
type Floating struct {
	ID, Cluster, Description string
	Network                  string     // external; "": where the port's router leads
	Address                  netip.Addr // not valid: any
	Keep                     bool       // it stays when the Service goes
}

// The annotations that are understood (cloud-provider-openstack, pkg/openstack/loadbalancer.go).
const (
	internalNote  = "service.beta.kubernetes.io/openstack-internal-load-balancer"
	rangesNote    = "service.beta.kubernetes.io/load-balancer-source-ranges"
	notes         = "loadbalancer.openstack.org/"
	networkNote   = notes + "floating-network-id"
	keepNote      = notes + "keep-floatingip"
	limitNote     = notes + "connection-limit"
	methodNote    = notes + "lb-method"
	monitorNote   = notes + "enable-health-monitor"
	delayNote     = notes + "health-monitor-delay"
	timeoutNote   = notes + "health-monitor-timeout"
	riseNote      = notes + "health-monitor-max-retries"
	fallNote      = notes + "health-monitor-max-retries-down"
	hostnameNote  = notes + "hostname"
	addressNote   = notes + "load-balancer-address" // which upstream writes
	subnetNote    = notes + "subnet-id"
	vipNetNote    = notes + "network-id"
	selectorNote  = notes + "node-selector"
	defaultMethod = "ROUND_ROBIN"
)

// ignoredNotes ask for what makes no difference here.
var ignoredNotes = []string{addressNote, notes + "timeout-client-data", notes + "timeout-member-connect", notes + "timeout-member-data", notes + "timeout-tcp-inspect",
	notes + "member-subnet-id", notes + "availability-zone"}

// idOf names the load balancer of a Service.
func idOf(cluster, uid string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("load balancer "+cluster+" "+uid)).String()
}

func floatingOf(balancer string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("floating IP "+balancer)).String()
}

func cut(s string) string { return s[:min(len(s), 255)] }

// want is a Service as a load balancer without members, and its floating IP; nil: it is to
// have none.
func (s *service) want(cluster string) (*Balancer, *Floating, error) {
	m := &s.Metadata
	b := &Balancer{ID: idOf(cluster, m.UID), Cluster: cluster, Transparent: s.local(), Sticky: s.Spec.SessionAffinity == "ClientIP",
		Name:        cut(fmt.Sprintf("kube_service_%s_%s_%s", cluster, m.Namespace, m.Name)),
		Description: cut(fmt.Sprintf("Kubernetes external service %s/%s from cluster %s", m.Namespace, m.Name, cluster))}
	f := &Floating{ID: floatingOf(b.ID), Cluster: cluster, Description: "Floating IP for " + b.Description, Network: m.Annotations[networkNote]}
	r := reader{notes: m.Annotations}
	internal := r.truth(internalNote, false)
	f.Keep, b.Limit, b.Algorithm = r.truth(keepNote, false), max(r.number(limitNote, 0), 0), r.word(methodNote, defaultMethod)
	if r.truth(monitorNote, true) {
		b.Monitor = &Monitor{Path: "/healthz", Port: kube.ProxyHealthPort, Delay: r.number(delayNote, 3), Timeout: r.number(timeoutNote, 2), Rise: r.number(riseNote, 1), Fall: r.number(fallNote, 2)}
		if s.local() {
			b.Monitor.Port = s.Spec.HealthCheckNodePort
		}
	}
	if !slices.Contains([]string{defaultMethod, "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT"}, b.Algorithm) {
		r.bad = append(r.bad, fmt.Sprintf("%s %q is not known", methodNote, b.Algorithm))
	}
	b.Allowed, b.IPv6 = r.ranges(s), s.has(ipv6)
	if at := s.Spec.LoadBalancerIP; at != "" {
		a, err := netip.ParseAddr(at)
		switch {
		case err != nil || a.Is4() && !s.has(ipv4) || a.Is6() && !s.has(ipv6):
			r.bad = append(r.bad, fmt.Sprintf("loadBalancerIP %q is no address of the Service's ipFamilies", at))
		case a.Is6():
			b.Address6 = a
		case internal:
			b.Address = a
		default:
			f.Address = a
		}
	}
	r.unknown()
	b.Ports = r.ports(s)
	if internal || !s.has(ipv4) { // there are no floating IPs of IPv6
		f = nil
	}
	return b, f, r.error()
}

// ports are what the load balancer listens to.
func (r *reader) ports(s *service) (out []Port) {
	for _, p := range s.Spec.Ports {
		switch {
		case p.Protocol != "TCP" && p.Protocol != "UDP":
			r.bad = append(r.bad, fmt.Sprintf("port %d: load balancers carry TCP and UDP, not %s", p.Port, p.Protocol))
		case p.NodePort == 0:
			r.bad = append(r.bad, fmt.Sprintf("port %d has no node port (allocateLoadBalancerNodePorts)", p.Port))
		}
		name := p.Name
		if name == "" {
			name = strings.ToLower(p.Protocol) + "-" + strconv.Itoa(p.Port)
		}
		out = append(out, Port{Name: name, Protocol: p.Protocol, Port: p.Port, NodePort: p.NodePort})
	}
	return out
}

// reader reads annotations, and keeps what is wrong with them.
type reader struct {
	notes map[string]string
	bad   []string
}

func (r *reader) error() error {
	if len(r.bad) == 0 {
		return nil
	}
	return errs.Invalidf("%s", strings.Join(r.bad, "; "))
}

func (r *reader) truth(note string, normally bool) bool {
	v, ok := r.notes[note]
	if !ok {
		return normally
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.bad = append(r.bad, fmt.Sprintf("%s is %q, which is neither true nor false", note, v))
	}
	return b
}

func (r *reader) number(note string, normally int) int {
	v, ok := r.notes[note]
	if !ok {
		return normally
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < -1 || n > 1<<30 || n < 1 && note != limitNote {
		r.bad = append(r.bad, fmt.Sprintf("%s is %q, which is no such number", note, v))
	}
	return n
}

func (r *reader) word(note, normally string) string {
	if v := r.notes[note]; v != "" {
		return v
	}
	return normally
}

// ranges are who may connect, in order.
func (r *reader) ranges(s *service) (out []string) {
	list := s.Spec.SourceRanges
	if len(list) == 0 && r.notes[rangesNote] != "" {
		list = strings.Split(r.notes[rangesNote], ",")
	}
	for _, text := range list {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			r.bad = append(r.bad, fmt.Sprintf("the source range %q is no CIDR", text))
			continue
		}
		if p.Addr().Is4() && s.has(ipv4) || p.Addr().Is6() && s.has(ipv6) { // others cannot come
			out = append(out, p.Masked().String())
		}
	}
	if len(list) > 0 && len(out) == 0 && len(r.bad) == 0 {
		r.bad = append(r.bad, "no source range is of the Service's ipFamilies")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unknown refuses annotations that ask for what is not there.
func (r *reader) unknown() {
	known := append([]string{networkNote, keepNote, limitNote, methodNote, monitorNote, delayNote, timeoutNote, riseNote, fallNote, hostnameNote, subnetNote, vipNetNote, selectorNote}, ignoredNotes...)
	var bad []string
	for note, v := range r.notes {
		if strings.HasPrefix(note, notes) && v != "" && v != "false" && !slices.Contains(known, note) {
			bad = append(bad, note+" is not supported")
		}
	}
	slices.Sort(bad)
	r.bad = append(r.bad, bad...)
}

// selects tells whether a Service wants a node, by the labels that it names: KEY=VALUE or
// KEY, all of them.
func (s *service) selects(n *node) bool {
	for _, part := range strings.Split(s.Metadata.Annotations[selectorNote], ",") {
		key, value, valued := strings.Cut(strings.TrimSpace(part), "=")
		has, ok := n.Metadata.Labels[key]
		if key != "" && (!ok || valued && has != value) {
			return false
		}
	}
	return true
}
