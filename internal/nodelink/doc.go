// Package nodelink carries what a node's agent and the control plane say to each
// other between machines: gRPC over TLS with a certificate on both ends.
//
// An agent always dials. On one connection (h2) it calls the control plane, on
// another (the protocol Reverse) the two change roles and the control plane calls
// the agent, so that a node needs no open port. Both directions serve plain Go
// interfaces: Export takes an implementation and answers calls of its methods by
// name, with JSON for arguments and results, a stream of messages for a channel
// and a stream of bytes for a reader or a connection. Stub is the other end.
//
// The port has more protocols, chosen in the handshake (ALPN): machines join by plain
// HTTPS, and control members pass clients' requests on and ask each other. Only the
// member that leads speaks those of agents, so that an agent finds it by trying.
//
// Invariants: the node that a caller speaks for is the common name of its
// certificate, never what it says; errors keep their errs.Kind; a channel closes
// when its connection breaks, and whoever reads it asks again.
//
// Crash story: nothing is kept here. An agent that lost its connection dials anew
// and is told the whole of what is wanted; what it did meanwhile it reports again.
package nodelink
