// Package balance is the part of a node's agent that runs load balancers: it follows what
// the control plane wants, has package balancer make it, watches the members and tells
// what it sees.
//
// A loop reconciles one load balancer at a time, by id: on news of the control plane, when
// a member changes its state, and after a failure. Everything is compared with what is
// there, so that an agent that starts finds the load balancers of the one before and
// leaves their connections alone. Until it has looked at every watched member once it
// leaves their table alone too: what nobody has looked at gets no connections, and a
// restart must not take members away.
package balance
