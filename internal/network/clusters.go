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
// that the node hosts. The port of a node that is a server is for the compute service to plug in.
type ClusterPort struct {
	ID, NetworkID, SubnetID, ProjectID string
	SubnetID6                          string // of IPv6; with neither the network's subnets are the cluster's own
	Name, Cluster, Node                string
	Behind                             string // the node's port
	Server                             bool   // the node is one
	Gate                               bool
	IPv6                               bool // pods have IPv6 as well
}

// fixed are the subnets that a port of a network of others has addresses on.
func (v *ClusterPort) fixed() (out []any) {
	for _, id := range []string{v.SubnetID, v.SubnetID6} {
		if id != "" {
			out = append(out, map[string]any{"subnet_id": id})
		}
	}
	return out
}

// is tells whether a port is the one that is wanted.
func (v *ClusterPort) is(p *Port) bool {
	if v.Server {
		return p.Worker != nil && *p.Worker == PortOfWorker{v.Cluster, v.Node}
	}
	return p.DeviceID == v.Cluster && p.DeviceOwner == v.owner() && p.Host == v.Node && p.Behind == v.Behind
}

// leads tells whether a pod's port can be behind a port.
func (v *ClusterPort) leads(p *Port) bool {
	if p.Worker != nil {
		return *p.Worker == PortOfWorker{v.Cluster, v.Node} && p.NetworkID == v.NetworkID
	}
	return p.DeviceID == v.Cluster && p.DeviceOwner == ownerClusterNode && p.Host == v.Node && p.NetworkID == v.NetworkID
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
// get is the node's to filter, which knows the cluster's own policies. A server is trusted
// with less: its port has a group, which is the cluster's and lets everything in, and it
// sends with its own address and those of ports behind its own.
func (s *Service) EnsureClusterPort(ctx context.Context, v ClusterPort) (*nodeapi.ContainerPort, error) {
	err := s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, v.ID)
		switch {
		case errs.Is(err, errs.NotFound):
			return c.newClusterPort(v)
		case err != nil:
			return err
		case !v.is(p):
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
		if err != nil || !v.leads(own) {
			return errs.Conflictf("Port %s is no port of node %s in cluster %s.", v.Behind, v.Node, v.Cluster)
		}
		p.Status = statusActive // no data plane has a device of it
	}
	if v.Server {
		g, err := c.clusterGroup(v)
		if err != nil {
			return err
		}
		p.DeviceID, p.DeviceOwner, p.Host, p.PortSecurity, p.Groups = "", "", "", true, []string{g.ID}
		p.Worker = &PortOfWorker{v.Cluster, v.Node}
	}
	if err := c.takeMAC(p, false); err != nil {
		return err
	}
	given := attr.Values{}
	if fixed := v.fixed(); len(fixed) > 0 {
		given["fixed_ips"] = fixed
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
		for _, p := range by(c, c.ports, "worker", cluster) {
			if (node == "" || p.Worker.Node == node) && match(p.ID, false) {
				others = append(others, p.ID)
			}
		}
		for _, id := range others {
			if err := c.port.drop(c, id); err != nil {
				return err
			}
		}
		return c.dropClusterGroup(cluster)
	})
}

// clusterGroup is the security group of the servers that work for a cluster, by an id that
// is a name for the cluster.
func (c *call) clusterGroup(v ClusterPort) (*SecurityGroup, error) {
	id := clusterGroupID(v.Cluster)
	if g, err := get(c, c.groups, id); err == nil {
		return g, nil
	}
	if err := c.within("security_group", v.ProjectID, func() int { return c.groups.TxCount(c.tx, "project", v.ProjectID) }, 1); err != nil {
		return nil, err
	}
	g := &SecurityGroup{Base: Base{ID: id, ProjectID: v.ProjectID, Name: "kubernetes-" + v.Cluster, Description: "Servers and pods of cluster " + v.Cluster,
		Created: c.now, Updated: c.now, Revision: 1}, Stateful: true}
	if err := c.groups.TxCreate(c.tx, g); err != nil {
		return nil, err
	}
	if err := c.baseRules(g, false); err != nil {
		return nil, err
	}
	if v.IPv6 {
		if err := c.writeRule(g, SecurityRule{Direction: ingress, EtherType: ipv6}); err != nil {
			return nil, err
		}
	}
	return g, c.writeRule(g, SecurityRule{Direction: ingress, EtherType: ipv4})
}

func clusterGroupID(cluster string) string { return deviceUUID("cluster " + cluster) }

// dropClusterGroup removes it when no server of the cluster is left. One that others use by
// now is left to them.
func (c *call) dropClusterGroup(cluster string) error {
	id := clusterGroupID(cluster)
	if _, err := get(c, c.groups, id); err != nil || len(by(c, c.ports, "worker", cluster)) > 0 || len(by(c, c.ports, "group", id)) > 0 {
		return nil
	}
	return c.group.drop(c, id)
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
	found := s.oldestSubnet(network, 4)
	if found == nil {
		return "", s.network.notFound(network)
	}
	return found.ID, nil
}

// ClusterSubnet6 is the subnet for IPv6 of a network that ClusterSubnet found: the oldest.
func (s *Service) ClusterSubnet6(network string) (*Subnet, error) {
	found := s.oldestSubnet(network, 6)
	if found == nil {
		return nil, errs.NotFoundf("Network %s has no subnet for IPv6.", network)
	}
	return found, nil
}

func (s *Service) oldestSubnet(network string, version int) (found *Subnet) {
	for _, x := range s.subnets.By("network", network) {
		if x.version() == version && (found == nil || x.Created.Before(found.Created)) {
			found = x
		}
	}
	return found
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
