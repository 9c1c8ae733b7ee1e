package cluster

import (
	"context"
	"net/netip"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Networks is the network service, on whose networks pods are.
type Networks interface {
	// Make makes a network of the project with subnets, and if there is a way out, with a
	// router: to the external network out, or to the only one. also is part of the transaction.
	Make(ctx context.Context, project, name string, cidrs []netip.Prefix, out string, also func(tx *store.Tx, network, router string) error) error
	// Drop removes such a network. Absent is fine; Conflict: others use it.
	Drop(ctx context.Context, network, router string, also func(tx *store.Tx) error) error
	// Subnet finds a subnet for IPv4 that the caller may use, by ids or names; either may
	// be empty. One for IPv6 is that of its network. NotFound.
	Subnet(c *policy.Credentials, network, subnet string) (*PodNetwork, error)
	// External finds an external network that the project may use, by id or name. NotFound.
	External(project, ref string) (string, error)
	// EnsurePort makes a port and may be repeated; Plug is what it gives of one that there is.
	EnsurePort(ctx context.Context, p PortSpec) (*nodeapi.ContainerPort, error)
	Plug(port string) (nodeapi.ContainerPort, bool)
	// DropPorts removes those of a cluster's ports on a node, or with "" anywhere, that match.
	DropPorts(ctx context.Context, cluster, node string, match func(id string, pod bool) bool) error
	// Balancers are a cluster's load balancers, in order.
	Balancers(cluster string) []nodeapi.KubeBalancer
	// PodPorts are the ports of a cluster's pods on a node.
	PodPorts(cluster, node string) []string
}

// PortSpec is a port that a cluster wants.
type PortSpec struct {
	ID, NetworkID, SubnetID, ProjectID string
	SubnetID6                          string // of IPv6
	Name, Cluster, Node                string
	Behind                             string // of a pod: its node's port
	Server                             bool   // the node is a server, which the compute service plugs in
	Gate                               bool   // of the control plane
	IPv6                               bool   // pods have IPv6 as well
}

// PodNetwork is the network of a cluster's nodes and pods.
type PodNetwork struct {
	ID       string       `json:"id"`
	SubnetID string       `json:"subnet_id,omitempty"` // "": any, as there is one alone
	Router   string       `json:"router,omitempty"`
	CIDR     netip.Prefix `json:"cidr"`
	Own      bool         `json:"own"` // made for the cluster, and going with it
	// SubnetID6 and CIDR6 are the same for IPv6; no CIDR6: pods have IPv4 alone.
	SubnetID6 string       `json:"subnet_id6,omitempty"`
	CIDR6     netip.Prefix `json:"cidr6,omitzero"`
}

// inner are the networks inside the cluster. What its network is decides whether there are
// two of each: labels meant nothing to who made an older one.
func (c *Cluster) inner() (*innerNetworks, error) {
	n, err := networksOf(c.Labels, c.ID)
	if err != nil || c.Network == nil {
		return n, err
	}
	n.pods = []netip.Prefix{c.Network.CIDR}
	if !c.Network.CIDR6.IsValid() {
		n.services = n.services[:1]
	} else if len(n.services) == 2 {
		n.pods = append(n.pods, c.Network.CIDR6)
	}
	return n, nil
}

// portSpec is a port on the cluster's network, but for whose it is.
func (c *Cluster) portSpec(id, name, node string) PortSpec {
	return PortSpec{ID: id, NetworkID: c.Network.ID, SubnetID: c.Network.SubnetID, SubnetID6: c.Network.SubnetID6, ProjectID: c.ProjectID,
		Name: name, Cluster: c.ID, Node: node, IPv6: c.Network.CIDR6.IsValid()}
}

// fitNetwork checks the networks that are asked for, and finds the one that is there.
func (s *Service) fitNetwork(who *policy.Credentials, w *wanted) error {
	n, err := networksOf(w.Labels, "")
	if err != nil {
		return err
	}
	if ref := deref(w.external); ref != "" {
		if w.out, err = s.Networks.External(who.ProjectID, ref); err != nil {
			return badReference(err, "Unable to find external network %s", ref)
		}
	}
	network, subnet := deref(w.FixedNetwork), deref(w.FixedSubnet)
	if network == "" && subnet == "" {
		return nil
	}
	found, err := s.Networks.Subnet(who, network, subnet)
	if err != nil {
		return badReference(err, "Unable to find a subnet for IPv4 of the fixed network %s.", strings.TrimSpace(network+" "+subnet))
	}
	return w.onNetwork(found, n)
}

// onNetwork has a cluster be on a network that is there.
func (w *wanted) onNetwork(found *PodNetwork, n *innerNetworks) error {
	dual := len(n.services) == 2
	switch {
	case found.CIDR.Overlaps(n.services[0]):
		return overlap(found.CIDR, n.services[0])
	case dual && !found.CIDR6.IsValid():
		return errs.Invalidf("The fixed network %s has no subnet for IPv6, which labels ask for (%s): make one, or leave the label out.", found.ID, dualLabel)
	case dual && found.CIDR6.Overlaps(n.services[1]):
		return overlap(found.CIDR6, n.services[1])
	case !dual:
		found.SubnetID6, found.CIDR6 = "", netip.Prefix{}
	}
	w.network = found
	return nil
}

func overlap(pods, services netip.Prefix) error {
	return errs.Invalidf("The networks of pods (%s) and of services (%s) overlap.", pods, services)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// makeNetwork makes the cluster's own network, unless it has one.
func (s *Service) makeNetwork(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil || c.Network != nil {
		return err
	}
	n, err := c.inner()
	if err != nil {
		return err
	}
	return s.Networks.Make(ctx, c.ProjectID, c.Name, n.pods, c.External, func(tx *store.Tx, network, router string) error {
		_, err := s.clusters.TxUpdate(tx, c.ID, func(c *Cluster) error {
			c.Network = &PodNetwork{ID: network, Router: router, CIDR: n.pods[0], Own: true}
			if len(n.pods) == 2 {
				c.Network.CIDR6 = n.pods[1]
			}
			return nil
		})
		return err
	})
}

func everyPort(string, bool) bool { return true }

// dropNetwork removes the cluster's ports, and its own network. One that others use by
// now is left to them.
func (s *Service) dropNetwork(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return ignoreAbsent(err)
	}
	if err := s.clean(ctx, c.ID); err != nil {
		return err
	}
	if err := s.Networks.DropPorts(ctx, c.ID, "", everyPort); err != nil {
		return err
	}
	if c.Network == nil || !c.Network.Own {
		return nil
	}
	forget := func(tx *store.Tx) error {
		_, err := s.clusters.TxUpdate(tx, c.ID, func(c *Cluster) error { c.Network = nil; return nil })
		return ignoreAbsent(err)
	}
	err = s.Networks.Drop(ctx, c.Network.ID, c.Network.Router, forget)
	if errs.Is(err, errs.Conflict) {
		s.Log.Info("a cluster's network is left to those who use it", "cluster", c.ID, "network", c.Network.ID)
		return s.DB.Txn(ctx, forget)
	}
	return err
}

// plugNode gives a worker its place in the network.
func (s *Service) plugNode(ctx context.Context, c *Cluster, w *Worker) error {
	if c.Network == nil {
		return errs.New(errs.Internal, "cluster %s has no network", c.ID)
	}
	spec := c.portSpec(w.Port, c.Name+" "+w.Node, w.Node)
	spec.Server = w.Server != ""
	_, err := s.Networks.EnsurePort(ctx, spec)
	return err
}

// Place is where a worker is on its cluster's network. Six is not valid without IPv6.
type Place struct{ Four, Six netip.Addr }

// Places are those of a cluster's workers, by name.
func (s *Service) Places(cluster string) map[string]Place {
	out := map[string]Place{}
	c, err := s.clusters.Get(cluster)
	if err != nil || c.Network == nil {
		return out
	}
	for _, w := range s.workers.By("cluster", cluster) {
		p, ok := s.Networks.Plug(w.Port)
		if !ok || w.Leaving {
			continue
		}
		if four, err := p.IPv4(); err == nil {
			out[w.Node] = Place{Four: four, Six: p.In(c.Network.CIDR6)}
		}
	}
	return out
}

// PodPort gives a pod of a worker its port, and may be repeated.
func (s *Service) PodPort(ctx context.Context, node, cluster string, p nodeapi.KubePod) (*nodeapi.ContainerPort, error) {
	c, err := s.clusters.Get(cluster)
	w, there := s.workers.Unique("node", node)
	if err != nil || !there || !s.works(node, cluster) || c.Network == nil {
		return nil, errs.Forbiddenf("node %s does not work for cluster %s", node, cluster)
	}
	// The id is a name for the pod's device, so that a repetition finds the port.
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(strings.Join([]string{cluster, node, p.Sandbox, p.Device}, "\x00"))).String()
	spec := c.portSpec(id, cut(p.Namespace+"/"+p.Name), node)
	spec.Behind = w.Port
	return s.Networks.EnsurePort(ctx, spec)
}

// cut holds a name to what a port's can be.
func cut(name string) string { return name[:min(len(name), 255)] }

// DropPodPort removes the port of a pod of the node. Absent is fine.
func (s *Service) DropPodPort(ctx context.Context, node, cluster, port string) error {
	if node == "" {
		return errs.Invalidf("which node?")
	}
	return s.Networks.DropPorts(ctx, cluster, node, func(id string, pod bool) bool { return pod && id == port })
}

// PodPorts are the ports of a cluster's pods on a node.
func (s *Service) PodPorts(node, cluster string) []string { return s.Networks.PodPorts(cluster, node) }
