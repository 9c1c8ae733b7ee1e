// Package cluster is the service container-infra, API v1 (Magnum): Kubernetes clusters,
// the templates that they are made from, and their node groups.
//
// It owns the records of templates, clusters, node groups, workers and quotas. A cluster's
// control plane is hosted by a control member, its workers are nodes of the pool (server
// type bm), one cluster on each, or servers of its project (vm). What a node is to do for clusters (nodeapi.KubePart) is
// made anew from the records whenever they change, and streamed to it; what it says of
// that is kept as a report. Which programs those are is package kube's business.
//
// # Invariants
//
//   - A cluster's authorities are in its record, go to the node that hosts its control
//     plane and to nobody else, and no view shows them. A worker is given certificates.
//   - A cluster has a slot from the request on until its record is gone, no two have the
//     same, and its ports follow from it.
//   - A node is a worker at most once. A worker holds a claim of placement's from before
//     its node hears of it until the node says that it is gone, or is away.
//   - A worker that is a server has a port, a server and a name that were chosen with its
//     record. The server is the compute service's; it is a worker as long as its record is
//     there, and what it says is about itself alone.
//   - Quotas are counted from the records, inside the ledger.
//
// # States
//
//	CREATE_IN_PROGRESS -> CREATE_COMPLETE | CREATE_FAILED
//	any COMPLETE -> UPDATE_IN_PROGRESS -> UPDATE_COMPLETE | UPDATE_FAILED
//	UPDATE_FAILED -> UPDATE_IN_PROGRESS (a resize)
//	any -> DELETE_IN_PROGRESS -> (no record)
//
// Health is no state: it is read from the last report of the node with the control plane.
//
// # Crash story
//
// A request writes the record in a state that shuts out other work, and its saga in one
// transaction. A create that fails gives back nodes, ports and claims, and leaves the
// record to be read and deleted. A delete insists; it waits for the nodes that are there,
// and those that are away remove what they have when they are back, since it is not
// wanted any more.
package cluster
