// Package names is the name server of containers on networks that users made, at
// 127.0.0.11 in each of them, as dockerd's is.
//
// One Table holds who is called what on which network. A Resolver answers in one
// container's namespace: from the Table, about the networks that the container is on,
// and what it does not know it asks of the host's resolvers, or of those that the
// container was given. A container that reaches no one outside does not get out by way of
// us: its questions never go to the host's resolvers.
package names
