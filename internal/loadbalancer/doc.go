// Package loadbalancer is the load-balancer API (Octavia, v2): load balancers with their
// listeners, pools, members and health monitors, for TCP, HTTPS as it is and UDP,
// served by the nodes.
//
// # What it owns
//
// A load balancer is one record, with all of its children: each request is about one
// load balancer and locks it, as upstream has it. What its node says of it is a record of
// its own (Status), which the node alone writes, by way of Report. Traffic is counted by
// the nodes and kept in RAM.
//
// # Invariants
//
//   - The VIP is a port of the network service. It is made, bound to a node and given back
//     in the transaction that writes the load balancer, so that there is never one without
//     the other. For that, load balancers are written through the network's ledger.
//   - A child is a part of its load balancer: deleting that deletes them.
//   - Quotas are counted from the records.
//
// # States
//
// provisioning_status is not kept but follows from generations. Every change gives the load
// balancer and the children that it is about the next one. What is above the
// generation that the node has reached is PENDING_CREATE or PENDING_UPDATE, the rest is
// ACTIVE. A load balancer is in ERROR while its node says why it cannot follow, or when it
// has not followed for a while; it can be deleted or failed over then, and becomes
// ACTIVE by itself when the node follows after all. What is deleted is gone at once: it is
// never seen as PENDING_DELETE.
//
//	PENDING_CREATE -> ACTIVE <-> PENDING_UPDATE
//	PENDING_* -> ERROR -> ACTIVE
//
// operating_status follows from what the node says of members, by upstream's rules.
//
// # Nodes
//
// A load balancer is on one node: the one with the highest hash of both names among those
// that are up. Run moves those whose node is lost. Nodes follow Watch.
//
// # Crash story
//
// Nothing outlives a transaction but records. A node's agent compares what it has with
// what Watch says, and connections go on in the kernel meanwhile.
package loadbalancer
