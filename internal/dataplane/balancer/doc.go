// Package balancer makes load balancers of a node: a namespace each, with a device on the
// VIP's port and a table that distributes connections.
//
//	client -> lb0 | in: who may, how many, counters      (prerouting, filter)
//	               | listen -> p-POOL -> m-MEMBER: dnat  (prerouting, nat)
//	               | answer: snat to the VIP             (postrouting, nat)  -> lb0 -> member
//
// # Invariants
//
// Whom a pool's next connections go to is a list of slots (slots.go), computed here and
// walked by the kernel. Rules that count are changed only with their listener, so that
// counters go on. What no listener takes is dropped, and nothing is forwarded that no
// listener has taken.
//
// # Crash story
//
// Namespace and table stay when the process ends, and connections go on. Open finds them
// again by the load balancer's id; the first Apply after that replaces the table at once,
// which connections do not notice.
package balancer
