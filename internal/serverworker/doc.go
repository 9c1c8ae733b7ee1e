// Package serverworker has a server of a project work for a cluster of Kubernetes: it is what
// runs in the guest, where a machine of the pool has its agent. The programs and the network
// of pods are the same packages' (kube, podnet), and so is the link to the region (nodelink),
// by which a server may do less.
//
// What the server is told at its first boot is its user data (nodeapi.KubeBootstrap), which
// is moved to where root alone reads it. Certificates that are renewed take its place.
//
//	/var/lib/strata/user-data            as the guest got it
//	/var/lib/strata/worker/bootstrap     the same, from then on
//	/var/lib/strata/worker/link.pem      the newest certificate for the link, with its key
//	/var/lib/strata/kube                 the cluster's programs
//
// # Invariants
//
//   - Pods do not reach the metadata service, where the user data is.
//   - Nothing here is trusted by the region: this machine is the project's.
//
// # Crash story
//
// The programs outlive this one, and are found again. The server is started anew by its own
// init, asks the region what it is to do, and does it again.
package serverworker
