// Package csi is a machine's part of the driver of the container storage interface: its
// clusters' persistent volumes are volumes of block storage.
//
//	the region   package cluster/volumes, the controller service
//	   ^         the node's link
//	this agent   Relay: a socket beside a control plane, for Kubernetes' controllers
//
//	kubelet      finds the driver in its directory of plugins
//	   v
//	this agent   Node: a socket; the volume is reached and mounted by Disks
//
// The region lets a node act for the clusters whose control plane it hosts, and reach the
// volumes that are attached to it as a worker of a cluster.
//
// # Invariants
//
//   - A cluster is the only user of a volume on a machine. A file system is mounted where
//     kubelet wants it staged, and nowhere else but in pods: kubelet would wait for that.
//   - The sockets' files stay when the agent ends: kubelet would think that the driver is gone.
//
// # Crash story
//
// The daemons of volumes and all mounts outlive the agent, and calls may be repeated. What is
// there is read from the kernel. A machine that was started anew is asked by kubelet to
// mount again, and reaches volumes as it did before.
//
// Source: container-storage-interface/spec (spec.md); kubelet's pluginregistration/v1/api.proto.
package csi
