package network

import (
	"context"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Device owners of the ports of clusters of Kubernetes, whose device is the cluster.
const (
	ownerClusterNode = "container-infra:node"
	ownerClusterPod  = "container-infra:pod"
	ownerClusterGate = "container-infra:gate"
)

// ClusterPort is a port that a cluster of Kubernetes wants on one of its nodes: that of the
// node itself, with Behind of a pod that the node routes to, or with Gate of the control plane
// that the node hosts.
type ClusterPort struct {
	ID, NetworkID, SubnetID, ProjectID string
	Name, Cluster, Node                string
	Behind                             string // the node's port
	Gate                               bool
}

func (v *ClusterPort) owner() string {
	switch {
	case v.Gate:
		return ownerClusterGate
	case v.Behind == "":
		return ownerClusterNode
	}
	return ownerClusterPod
}

func ofCluster(owner string) bool {
	return owner == ownerClusterNode || owner == ownerClusterPod || owner == ownerClusterGate
}

// EnsureClusterPort makes a port for a cluster. Repeating it changes nothing.
//
// Such ports have no security groups, and a node sends for all its pods: what pods send and
// get is the node's to filter, which knows the cluster's own policies.
func (s *Service) EnsureClusterPort(ctx context.Context, v ClusterPort) (*nodeapi.ContainerPort, error) {
	err := s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, v.ID)
		switch {
		case errs.Is(err, errs.NotFound):
			return c.newClusterPort(v)
		case err != nil:
			return err
		case p.DeviceID != v.Cluster || p.DeviceOwner != v.owner() || p.Host != v.Node || p.Behind != v.Behind:
			return conflict("PortInUse", "Port %s is still in use.", p.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out, ok := s.Plug(v.ID)
	if !ok {
		return nil, s.port.notFound(v.ID)
	}
	return &out, nil
}

// newClusterPort makes it, against the project's quota.
func (c *call) newClusterPort(v ClusterPort) error {
	n, err := get(c, c.networks, v.NetworkID)
	if err != nil {
		return c.network.notFound(v.NetworkID)
	}
	if err := c.within("port", v.ProjectID, func() int { return c.ports.TxCount(c.tx, "project", v.ProjectID) }, 1); err != nil {
		return err
	}
	p := &Port{Base: Base{ID: v.ID, ProjectID: v.ProjectID, Name: v.Name, Created: c.now, Updated: c.now, Revision: 1}, NetworkID: n.ID, AdminUp: true,
		Status: statusDown, DeviceID: v.Cluster, DeviceOwner: v.owner(), Host: v.Node, Behind: v.Behind, VNICType: "normal"}
	if v.Behind != "" {
		own, err := get(c, c.ports, v.Behind)
		if err != nil || own.DeviceID != v.Cluster || own.DeviceOwner != ownerClusterNode || own.Host != v.Node || own.NetworkID != n.ID {
			return errs.Conflictf("Port %s is no port of node %s in cluster %s.", v.Behind, v.Node, v.Cluster)
		}
		p.Status = statusActive // no data plane has a device of it
	}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	given := attr.Values{}
	if v.SubnetID != "" {
		given["fixed_ips"] = []any{map[string]any{"subnet_id": v.SubnetID}}
	}
	if err := c.allocate(p, given); err != nil {
		return err
	}
	if err := c.ports.TxCreate(c.tx, p); err != nil {
		return err
	}
	return c.serveDHCP(n)
}

// DropClusterPorts deletes those of a cluster's ports on a node that match: of its pods,
// of the node itself and of the control plane. "" is every node. There may be none.
func (s *Service) DropClusterPorts(ctx context.Context, cluster, node string, match func(id string, pod bool) bool) error {
	return s.do(ctx, nil, func(c *call) error {
		var others []string
		for _, p := range by(c, c.ports, "device", cluster) {
			pod := p.DeviceOwner == ownerClusterPod
			if !ofCluster(p.DeviceOwner) || node != "" && p.Host != node || !match(p.ID, pod) {
				continue
			}
			if !pod {
				others = append(others, p.ID) // after what is behind them
			} else if err := c.port.drop(c, p.ID); err != nil {
				return err
			}
		}
		for _, id := range others {
			if err := c.port.drop(c, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// ClusterSubnet finds a subnet for IPv4 that the caller's clusters can be on, by id or name of
// network and subnet; either may be empty. The oldest of a network's is taken.
func (s *Service) ClusterSubnet(who *policy.Credentials, network, subnet string) (*Subnet, error) {
	var found *Subnet
	for _, n := range s.networks.All() {
		if n.External || who.ProjectID != n.ProjectID && !s.sharedWith(who.ProjectID, n.ID) || network != "" && network != n.ID && network != n.Name {
			continue
		}
		for _, x := range s.subnets.By("network", n.ID) {
			if x.version() != 4 || subnet != "" && subnet != x.ID && subnet != x.Name {
				continue
			}
			switch {
			case found != nil && found.NetworkID != n.ID:
				return nil, errs.Invalidf("More than one network or subnet is called so: use an ID to be more specific.")
			case found == nil || x.Created.Before(found.Created):
				found = x
			}
		}
	}
	if found == nil {
		return nil, errs.NotFoundf("There is no such subnet.")
	}
	return found, nil
}

// SoleSubnet is the subnet for IPv4 of a network: the oldest.
func (s *Service) SoleSubnet(network string) (string, error) {
	var found *Subnet
	for _, x := range s.subnets.By("network", network) {
		if x.version() == 4 && (found == nil || x.Created.Before(found.Created)) {
			found = x
		}
	}
	if found == nil {
		return "", s.network.notFound(network)
	}
	return found.ID, nil
}

// PodPorts are the ids of the ports of a cluster's pods on a node, in order.
func (s *Service) PodPorts(cluster, node string) []string {
	var out []string
	for _, p := range s.ports.By("device", cluster) {
		if p.DeviceOwner == ownerClusterPod && p.Host == node {
			out = append(out, p.ID)
		}
	}
	slices.Sort(out)
	return out
}
