// Package podnet is the network of a cluster's pods on this machine.
//
//	pod          eth0 with its port's address/32, one way out: through 169.254.1.1
//	  |          veth kp-PORT; its host's end has one MAC for all pods
//	host         a route to each pod by its veth; the rules of nftables
//	  |          kn-PORT: the node's own port on the cluster's network, by the data plane
//	network      others find a pod at its node's MAC
//
// So all that a pod sends and gets is routed by the machine, where kube-proxy translates
// the addresses of services, and where policies are enforced. What leaves the cluster's
// network takes the machine's address.
//
// In a cluster with both families all of that is there twice: the next hop is fe80::1, and the
// machine answers on the network for each pod by itself (proxy_ndp), as there is no proxy_arp.
//
// The runtime calls the plugin (package cni), which asks here by a socket. A pod's port is
// made by the control plane, which knows what this node may have.
//
// # Invariants
//
//   - A pod has rules before its device is up, and its record is written before anything
//     of it is made. A record goes after all else of the pod has gone.
//   - Pods send with their own addresses only, and nothing of the underlay's VXLAN.
//   - What comes in by kn-PORT goes to pods and to this machine, never through it to others.
//
// # Crash story
//
// Records are files (cni/pods) with the names of everything. An agent that starts reads
// them, and replaces the table of nftables in one transaction; devices and routes are left
// alone. Pods whose namespace is gone are removed, and ports that no record knows are given
// back, which also ends what a runtime forgot to delete or could not while the control
// plane was away.
package podnet
