// Package network is the network API (Neutron, v2.0): networks, subnets, ports,
// routers, floating IPs, security groups, subnet pools, RBAC, quotas; and the
// derivation of what each node's data plane should look like.
//
// # What it owns
//
// The records in store.go. Compute names ports by ids that it chose and calls
// EnsurePort and ReleasePort, which may be repeated. Nodes read NetState and
// write nothing but a port's status, through ReportPorts.
//
// # Invariants
//
//   - Every write goes through the ledger "network", one function after the
//     other, so that counting the live records is exact: there are no quota
//     counters that could drift.
//   - A port's addresses and its MAC are unique keys (network/address,
//     network/mac), written by the transaction that writes the port: an address
//     cannot be given twice whatever the allocator believes. Where it looks first
//     is only a hint in RAM.
//   - An API request is one transaction: a refused one leaves nothing behind.
//   - "shared" and the visibility of external networks are RBAC records.
//   - A network with a DHCP subnet and a port that is not the service's own has
//     one DHCP port, from which DHCP, DNS and metadata are served on every node.
//
// # States
//
// A port is DOWN until the node that it is bound to says that it is plugged and
// filtered (ACTIVE), and again after it is unbound. Ports of the service's own
// are ACTIVE from the start. A floating IP is ACTIVE while it maps to a port.
//
// # Several nodes
//
// Which node has a router's gateway is derived from the nodes that are up
// (members.go), which Run follows. Span gives numbers to what reaches across
// nodes: VXLAN ids of transits and flat networks, and a port of its own for each node
// on an external network.
//
// # How the API is made
//
// A resource (resource.go) is a table of attributes (package attr) and hooks for
// create, update and remove. The table drives validation, defaults, policy of
// single attributes, views, filters and sorting; the hooks are the rules.
//
// # Crash story
//
// Nothing outlives a transaction but records. NetState is derived anew from them
// after a restart; hints begin at the start of the pools.
package network
