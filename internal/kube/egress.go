package kube

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// egressFile tells the API server by which way it reaches its cluster.
const egressFile = "egress.yaml"

// ControlGate is the socket beside a control plane where its API server asks for connections
// to the cluster (package gate).
func (m *Machine) ControlGate(cluster string) string {
	return filepath.Join(m.controlRun(cluster), "gate.sock")
}

// egress has all that the API server says to nodes, pods and services go by the gate. What it
// says to etcd, and to those whom it is told of by an address, does not.
func (p *plane) egress() []byte {
	return fmt.Appendf(nil, `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection: {proxyProtocol: HTTPConnect, transport: {uds: {udsName: %q}}}
`, p.gate)
}

// Beside gives where what runs beside the API server is, by the addresses that the cluster
// knows of it: the API itself, and the server of metrics, which has none of its own.
func (c *Control) Beside() map[netip.AddrPort]netip.AddrPort {
	return map[netip.AddrPort]netip.AddrPort{
		c.Address: c.Address,
		netip.AddrPortFrom(c.Address.Addr(), uint16(c.MetricsPort)): netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(c.MetricsPort)),
	}
}
