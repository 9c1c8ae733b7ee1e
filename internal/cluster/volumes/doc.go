// Package volumes is the controller service of the container storage interface (CSI) for
// the region's clusters of Kubernetes: their persistent volumes are volumes of block
// storage of the cluster's project.
//
// It runs where the volume service does. Kubernetes' own controllers, beside a cluster's
// control plane, call it through their node's agent (package kube/csi), which may act for
// the clusters that it hosts; a cluster holds no credentials.
//
// # Invariants
//
//   - Everything is in the cluster's project, and counts in its quotas.
//   - The id of a volume, a snapshot or an attachment is a name for what the call names, so
//     that a repetition finds what the first one made.
//   - A volume is attached to one node at a time, and that is a worker of the cluster. Its
//     attachment ends by these calls, or with the worker, and no one else ends it.
//
// # Crash story
//
// A call is begun by a saga of the volume service and waits for its end. Who asked repeats
// a call whose answer is lost. What failed is removed, so that the repetition makes it anew.
//
// Source: container-storage-interface/spec (spec.md); cloud-provider-openstack's cinder-csi
// for what volumes are called and which metadata they have.
package volumes
