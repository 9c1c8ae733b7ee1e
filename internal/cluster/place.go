package cluster

import (
	"context"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// The ports of control planes: a slot has one of the API, two of etcd, one
// where tokens are judged, and one of the server of metrics.
const (
	firstAPIPort  = 6443
	firstEtcdPort = 12379
	slots         = 500

	firstReviewPort  = firstEtcdPort + 2*slots
	firstMetricsPort = firstReviewPort + slots
)

// takeSlot gives a new cluster the first slot that is free.
func (s *Service) takeSlot(tx *store.Tx, c *Cluster) error {
	for c.Slot = range slots {
		if _, used := s.clusters.TxUnique(tx, "slot", strconv.Itoa(c.Slot)); !used {
			return nil
		}
	}
	return errs.New(errs.NoCapacity, "There are %d clusters already.", slots)
}

// leastWorker is what a worker needs that names no flavor (kubeadm's requirements).
var leastWorker = Size{VCPUs: 2, MemoryMiB: 2048}

// size is what a worker of a flavor takes.
func (s *Service) size(ctx context.Context, c *policy.Credentials, flavor *string) (Size, error) {
	if flavor == nil {
		return leastWorker, nil
	}
	size, err := s.Resources.Flavor(ctx, c, *flavor)
	return size, badReference(err, "Unable to find flavor %s.", *flavor)
}

// host is the address without the port.
func host(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	return a.Addr().String()
}

// apiPort is the port of a cluster's API.
func (c *Cluster) apiPort() uint16 { return uint16(firstAPIPort + c.Slot) }

// chooseMember gives the control member with the fewest control planes, but for one.
func (s *Service) chooseMember(but string) (node string, addr netip.Addr, err error) {
	best := -1
	for _, m := range s.Pool.Members() {
		a := s.Pool.Address(m)
		if _, err := s.Nodes.Conn(m); err != nil || !a.IsValid() || m == but {
			continue
		}
		if n := s.clusters.Count("member", m); best < 0 || n < best {
			best, node, addr = n, m, a
		}
	}
	if best < 0 {
		return "", addr, errs.New(errs.NoCapacity, "No control member is there to host a control plane.")
	}
	return node, addr, nil
}

// hire makes a node of the pool a worker of the group: placement chooses, and the record
// keeps others from it before the claim is made.
func (s *Service) hire(ctx context.Context, c *Cluster, g *Group) error {
	if g.Server != nil {
		return s.hireServer(ctx, c, g)
	}
	size := g.Size
	list, err := s.Placement.Candidates(ctx, size.VCPUs, size.MemoryMiB)
	if err != nil {
		return err
	}
	for node := range list {
		if !s.hireable(node) {
			continue
		}
		w := &Worker{ID: uuid.NewString(), ClusterID: c.ID, GroupID: g.ID, Node: node, Address: s.Pool.Address(node).String(), Port: uuid.NewString(), Created: now()}
		if _, err := certify(c, w); err != nil {
			return err
		}
		if err := s.workers.Create(ctx, w); errs.Is(err, errs.Conflict) {
			continue // another cluster was first
		} else if err != nil {
			return err
		}
		if err := s.claim(ctx, c, w, size); !errs.Is(err, errs.NoCapacity) {
			return err
		}
		if err := s.workers.Delete(ctx, w.ID); err != nil {
			return err
		}
	}
	return errs.New(errs.NoCapacity, "No node has room for another worker of %d VCPUs and %d MiB: each works for one cluster alone.", size.VCPUs, size.MemoryMiB)
}

// claim has placement give the worker its node, and the network its place.
func (s *Service) claim(ctx context.Context, c *Cluster, w *Worker, size Size) error {
	if err := s.Placement.Claim(ctx, w.ID, w.Node, c.ProjectID, c.UserID, size.VCPUs, size.MemoryMiB); err != nil {
		return err
	}
	if err := s.plugNode(ctx, c, w); err != nil {
		return err
	}
	_, err := s.workers.Update(ctx, w.ID, func(w *Worker) error { w.Claimed = true; return nil })
	return err
}

// certify issues what the worker has no good certificates of.
func certify(c *Cluster, w *Worker) (changed bool, err error) {
	addr, err := netip.ParseAddr(w.Address)
	if err != nil {
		return false, err
	}
	for _, x := range []struct {
		pair *kubePair
		leaf kubeLeaf
	}{{&w.Kubelet, kube.KubeletLeaf(w.Node)}, {&w.Serving, kube.ServingLeaf(w.Node, addr)}, {&w.Proxy, kube.ProxyLeaf()}, {&w.Policies, kube.PoliciesLeaf()}} {
		if c.Authorities.Cluster.Vouches(x.pair.Cert, x.leaf, now()) {
			continue
		}
		made, err := c.Authorities.Cluster.Issue(x.leaf)
		if err != nil {
			return false, err
		}
		*x.pair, changed = *made, true
	}
	return changed, nil
}

// recertify replaces a worker's certificates that are soon over.
func (s *Service) recertify(ctx context.Context, id string) error {
	w, err := s.workers.Get(id)
	if err != nil || w.Leaving || w.Address == "" { // a server that has none yet
		return ignoreAbsent(err)
	}
	c, err := s.clusters.Get(w.ClusterID)
	if err != nil || c.Authorities == nil {
		return ignoreAbsent(err)
	}
	next := *w
	if changed, err := certify(c, &next); err != nil || !changed {
		return err
	}
	_, err = s.workers.Update(ctx, id, func(w *Worker) error {
		w.Kubelet, w.Serving, w.Proxy, w.Policies = next.Kubelet, next.Serving, next.Proxy, next.Policies
		return nil
	})
	return ignoreAbsent(err)
}

// called tells whether a name is the worker's.
func (w *Worker) called(name string) bool {
	return name == w.ID || name == w.Node || w.Server != "" && name == w.Server
}

func ignoreAbsent(err error) error {
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// without are the workers that are not named, by their id, node or server.
func without(list []*Worker, names []string) []*Worker {
	return slices.DeleteFunc(slices.Clone(list), func(w *Worker) bool { return slices.ContainsFunc(names, w.called) })
}
