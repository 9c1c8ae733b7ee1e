package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/kube/authority"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

type (
	kubePair = authority.Pair
	kubeLeaf = authority.Leaf
)

// Parts are what a node is to do for clusters, in order.
func (s *Service) Parts(node string) []nodeapi.KubePart {
	byCluster := map[string]*nodeapi.KubePart{}
	of := func(id string) *nodeapi.KubePart {
		if byCluster[id] == nil {
			byCluster[id] = &nodeapi.KubePart{ID: id}
		}
		return byCluster[id]
	}
	for _, c := range s.clusters.By("member", node) {
		if p := s.control(c); p != nil {
			of(c.ID).Control = p
		}
	}
	for _, w := range s.workers.By("node", node) {
		if p := s.worker(w); p != nil {
			of(w.ClusterID).Worker = p
		}
	}
	out := []nodeapi.KubePart{}
	for _, p := range byCluster {
		s.inner(p)
		p.Rev = revision(p)
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b nodeapi.KubePart) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// inner tells a part of the networks inside its cluster.
func (s *Service) inner(p *nodeapi.KubePart) {
	c, err := s.clusters.Get(p.ID)
	if err != nil {
		return // it has just gone, and so has the part
	}
	if n, err := c.inner(); err == nil {
		p.PodCIDR, p.ServiceCIDR = n.pods[0], n.services[0]
		if len(n.pods) == 2 {
			p.PodCIDR6, p.ServiceCIDR6 = n.pods[1], n.services[1]
		}
	}
}

// revision names the content of a part.
func revision(p *nodeapi.KubePart) string {
	raw, err := json.Marshal(p)
	if err != nil {
		panic("cluster: a part is no JSON: " + err.Error())
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// control is a cluster's control plane; nil: it is not to run.
func (s *Service) control(c *Cluster) *nodeapi.KubeControl {
	at, err := netip.ParseAddrPort(c.Address)
	inner, badLabels := c.inner()
	if err != nil || badLabels != nil || c.Authorities == nil || c.Status == DeleteInProgress {
		return nil
	}
	a := c.Authorities
	p := &nodeapi.KubeControl{Name: c.Name, Generation: c.Generation, Address: at, Pods: inner.pods, Services: inner.services, EtcdPort: firstEtcdPort + 2*c.Slot, ReviewPort: firstReviewPort + c.Slot, MetricsPort: firstMetricsPort + c.Slot, State: c.State, Sealed: c.Sealed,
		Authorities: nodeapi.KubeAuthorities{Cluster: nodeapi.KubePair(a.Cluster), FrontProxy: nodeapi.KubePair(a.FrontProxy), Etcd: nodeapi.KubePair(a.Etcd), ServiceAccount: a.ServiceAccount}}
	if port, ok := s.Networks.Plug(c.Gate); ok {
		p.Gate = &port
	}
	for _, w := range s.workers.By("cluster", c.ID) {
		if w.Leaving {
			p.Gone = append(p.Gone, w.Node)
		} else if a, err := netip.ParseAddr(w.Address); err == nil && w.Claimed && w.Server == "" {
			p.Machines = append(p.Machines, a)
		}
	}
	slices.Sort(p.Gone)
	slices.SortFunc(p.Machines, netip.Addr.Compare)
	return p
}

// worker is a node as a worker; nil: it is none.
func (s *Service) worker(w *Worker) *nodeapi.KubeWorker {
	c, err := s.clusters.Get(w.ClusterID)
	if err != nil || !w.Claimed || w.Leaving || c.Status == DeleteInProgress || c.Authorities == nil {
		return nil
	}
	addr, err := netip.ParseAddr(w.Address)
	inner, badLabels := c.inner()
	if err != nil || badLabels != nil {
		return nil
	}
	var port *nodeapi.ContainerPort // without it the node waits: what runs there goes on
	if p, ok := s.Networks.Plug(w.Port); ok {
		port = &p
	}
	return &nodeapi.KubeWorker{Name: w.Node, Port: port, Balancers: s.Networks.Balancers(c.ID), Generation: w.Generation, Address: addr, URL: "https://" + c.Address, CA: c.Authorities.Cluster.Cert,
		Kubelet: nodeapi.KubePair(w.Kubelet), Serving: nodeapi.KubePair(w.Serving), Proxy: nodeapi.KubePair(w.Proxy), Policies: nodeapi.KubePair(w.Policies),
		Pods: inner.pods, DNS: (&kube.Control{Services: inner.services}).DNSIP(), Registries: s.Registry.Names(), Mirrors: s.Registry.Mirrored()}
}

// Watch streams what a node is to do for clusters, as a whole, coalesced.
func (s *Service) Watch(ctx context.Context, node string) <-chan []nodeapi.KubePart {
	return store.Stream(ctx, s.DB, func() []nodeapi.KubePart { return s.Parts(node) }, inParts()...)
}

// inParts are the kinds of records that parts are made of. The last: a control member that
// has joined has an address of the registry.
func inParts() []string {
	return []string{service + "/cluster", service + "/worker", "loadbalancer/loadbalancer", "network/floatingip", "registry/mirror", "node/info"}
}

// Report writes what a node says of clusters.
func (s *Service) Report(ctx context.Context, node string, parts []nodeapi.KubeStatus) error {
	if old, err := s.reports.Get(node); err == nil && reflect.DeepEqual(old.Parts, parts) {
		return nil
	}
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		return s.reports.TxPut(tx, &nodeapi.KubeReport{Node: node, Parts: parts})
	})
}

// reported is what a node says of its part of a cluster; nil: it has none.
func (s *Service) reported(node, cluster string) *nodeapi.KubeStatus {
	r, err := s.reports.Get(node)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(r.Parts, func(p nodeapi.KubeStatus) bool { return p.ID == cluster })
	if i < 0 {
		return nil
	}
	return &r.Parts[i]
}

// wantedRev is the revision that a node should have; "": no part of the cluster.
func (s *Service) wantedRev(node, cluster string) string {
	for _, p := range s.Parts(node) {
		if p.ID == cluster {
			return p.Rev
		}
	}
	return ""
}

// health is a cluster as the node with its control plane last told.
type health struct {
	status  string
	reasons map[string]string
	version string
}

// health reads a cluster's (magnum/drivers/common/k8s_monitor.py).
func (s *Service) health(c *Cluster) health {
	h := health{reasons: map[string]string{}}
	if c.Member == "" || c.Status == DeleteInProgress {
		return h
	}
	st := s.reported(c.Member, c.ID)
	if _, err := s.Nodes.Conn(c.Member); err != nil || st == nil || st.API == nil {
		h.status = "UNKNOWN"
		return h
	}
	h.status, h.version, h.reasons["api"] = "HEALTHY", st.API.Version, "ok"
	if st.Fault != "" || st.API.Fault != "" {
		h.status, h.reasons["api"] = "UNHEALTHY", strings.TrimSpace(st.Fault+" "+st.API.Fault)
	}
	for _, n := range st.API.Nodes {
		h.reasons[n.Name+".Ready"] = map[bool]string{true: "True", false: "False"}[n.Ready]
		if !n.Ready {
			h.status = "UNHEALTHY"
		}
	}
	for _, w := range s.workers.By("cluster", c.ID) {
		if w.Server != "" {
			if why := s.serverFault(w); why != "" && !w.Leaving {
				h.status, h.reasons[w.Node+".Server"] = "UNHEALTHY", why
			}
		} else if _, err := s.Nodes.Conn(w.Node); err != nil {
			h.reasons[w.Node+".Link"] = "down"
		} else if st := s.reported(w.Node, c.ID); st != nil && st.Fault != "" && w.Node != c.Member {
			h.reasons[w.Node+".Fault"] = st.Fault
		}
		if _, there := h.reasons[w.Node+".Ready"]; !there && !w.Leaving && c.Status != CreateInProgress {
			h.status, h.reasons[w.Node+".Ready"] = "UNHEALTHY", "False"
		}
	}
	return h
}
