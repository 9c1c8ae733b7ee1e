// Package netpolicy turns a cluster's NetworkPolicies into rules of nftables for the pods
// of one node.
//
// Feed keeps what the cluster's API has of namespaces, pods and policies, by list and
// watch. Compile makes of that and of the node's own pods one table:
//
//	egress, ingress   hooks of what is forwarded: established flows pass; others are judged by
//	                  the pod's device
//	sel-HASH-in/out   a chain for each set of policies that pods are isolated by: the policies,
//	                  and then the end
//	pol-HASH-in/out   a policy: its rules accept
//	set-HASH          the addresses that a pair of selectors has, shared by all who name it
//	port-NAME-PROTO   where pods have a port of that name
//	set6-, port6-     the same of IPv6, where pods have it
//
// A pod that no policy selects has no chain. What a node itself sends to its pods or gets
// from them is not forwarded, and so always passes, as the API wants it.
//
// Source: Kubernetes API reference, networking.k8s.io/v1; concept "Network Policies".
package netpolicy
