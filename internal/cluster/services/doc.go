// Package services is the controller of Services of type LoadBalancer: for each of a
// cluster's it keeps a load balancer on the cluster's network, and a floating IP where there
// is a way out.
//
//	client -> floating IP -> VIP -> node:nodePort -> pod
//
// The VIP has an address of IPv6 as well where the Service has. Clients on the cluster's network
// reach it, and those behind routers that know the way: floating IPs are of IPv4 alone.
//
// # What it owns
//
// Load balancers and floating IPs whose owner is the cluster. Their ids follow from the
// Service's uid, so a Service that is looked at twice has one of each. What users change of
// them, or delete, is made again.
//
// Members are the cluster's workers, by their address on the cluster's network. Which of
// them answer is watched by the load balancer: kube-proxy says how its node is, and with
// externalTrafficPolicy Local whether it has pods of the Service.
//
// # Invariants
//
//   - A Service has the finalizer before anything is made for it, and loses it after all of
//     that has gone.
//   - Nothing is made for a cluster that is going: the record is looked at in the
//     transaction. What there is goes with the cluster, with no need of its API.
//   - Services of another loadBalancerClass are left alone.
//
// # Crash story
//
// Nothing is remembered. What exists is listed by its owner and compared.
//
// Source: cloud-provider-openstack, "Exposing applications using services of LoadBalancer
// type", whose annotations these are.
package services
