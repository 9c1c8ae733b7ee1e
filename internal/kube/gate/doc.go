// Package gate lets the API server of a hosted control plane reach its cluster: pods, webhooks
// and aggregated APIs in pods, and kubelets.
//
//	kube-apiserver   is told of a socket (--egress-selector-config-file, "cluster"), and says
//	  |              CONNECT ADDRESS:PORT there whenever it speaks to the cluster
//	gate.sock        here, in the agent: where the address leads is decided
//	  |-- eth0       of a namespace NAME-gate-CLUSTER: the control plane's own port on the
//	  |              cluster's network, by the data plane; pods and servers of the network
//	  |-- machine    its own namespace: kubelets of workers that are machines of the pool
//	  '-- loopback   what runs beside the API server and is found at the member's address
//
// So the machine itself has no place in the tenant's network, and the tenant, who chooses what
// the API server connects to, reaches nothing by it but the cluster: all else is refused.
// Whoever serves on the network sees the gate's address. Nothing listens there.
//
// Workers that are servers, whose kubelets are on the cluster's network, need nothing here:
// their addresses are in Want.Network. Pods may have a second address, in Want.Network6.
//
// # Invariants
//
//   - An address leads to one place: what is beside the API server first, then machines, then
//     the network. There are no names: the API server has resolved them.
//   - A tunnel ends when either side has ended, the last bytes passed on. A side that ended
//     one direction has the other for as long as something comes, at least every lingerLimit.
//   - How many tunnels a cluster has is bounded, and how many of them are being dialled.
//
// # Crash story
//
// The namespace and its device outlive the agent. Tunnels do not: the API server makes them
// anew. Nothing is recorded; what is left of a cluster is found by the namespace's name.
//
// Source: Kubernetes, "Konnectivity service" and apiserver.k8s.io/v1beta1
// (EgressSelectorConfiguration); apiserver/pkg/server/egressselector; RFC 9110, 9.3.6.
package gate
