// Package dataplane realises the networking of one node: it makes the kernel
// look like a nodeapi.NetState and answers the servers' DHCP, DNS, metadata and
// router solicitations.
//
// # What it makes
//
//	host                  one veth (Config.HostLink) with the external gateway's address,
//	                      table inet strata-<name> for masquerading and for who may
//	                      send VXLAN, ip_forward
//	<name>-node           a bridge per network with the servers' taps and, across nodes,
//	                      a VXLAN port; tables bridge and inet strata (package
//	                      firewall); no address, no route
//	<name>-net-<network>  the network's DHCP port: DHCP, DNS and metadata listen there
//	<name>-qr-<router>    a router: legs into networks, NAT, floating IPs, metadata
//
// Each network has a namespace of its own for services and each router one too,
// because addresses of tenants overlap.
//
// # Across nodes
//
// With Config.Tunnel, networks and routers reach other nodes; RFD 7 says how and
// why. Who is where comes with the state and is never learned. The sender's
// node routes; what leaves by a gateway goes over the router's transit to the
// one node that has it. DHCP and routers are the same on every node, and each
// node keeps to its own.
//
// # Invariants
//
// Apply is level-triggered: it lists what exists, makes what is missing, changes
// what differs and removes what nobody wants. Objects that have not changed
// since the last Apply are left alone; applying the same generation once more
// verifies all of them. One broken object does not stop the others. Rules are
// in the kernel before a tap is plugged.
//
// # Crash story
//
// Everything is found again by name: namespaces and links carry ids of the
// objects, a bridge's alias carries its conntrack zone. Rules are replaced by
// atomic scripts and conntrack is not touched, so flows survive a restart of
// the process. Close stops the responders only; Reset removes everything.
//
// # Requirements
//
// Root, and the nft and ip_forward of a stock kernel; see Requirements.
package dataplane
