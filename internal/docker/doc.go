// Package docker is the region's Docker Engine API: containers of projects, on any
// node of the pool. Docker's clients speak to it as to an engine, below /docker/.
//
// It owns the records of projects' containers. What a container is, runs and prints is
// its node's engine's business (package container): a request about one is passed on to
// the node, over the connection that its agent holds, after the gateway has found the id
// among the records of the caller's project. Nothing that a client can set, such as a
// label, decides whose a container is.
//
//	docker CLI -> any control member -> the leader's gateway -> nodelink -> engine's API
//
// # Invariants
//
//   - A container's id is chosen here, and its record is written before any node hears of
//     it. The id is the engine's as well, and as a UUID (ConsumerID) placement's consumer
//     and the device of the ports.
//   - What a node is told to create was read into Docker's types and judged (judge.go): a
//     field that is not known is dropped, one that reaches the host is refused.
//   - An id of an exec carries the container's, so that it is judged as that.
//   - Names are a project's. On the node a container has one that says nothing.
//
// # States
//
//	creating -> ready -> removing -> (no record)
//	creating -> removing
//
// A project sees what is creating or ready. Removing gives back ports, claim and name at
// once; the record stays until the node says that the container is gone, so that one
// whose node is away can be deleted and does not come back with it.
//
// # Crash story
//
// A create is under way in one process. What it leaves when that dies is a record that
// is creating: Run turns those of the time before into removing. Removing is a
// reconciler's, so is the end of containers that their engine removed (--rm).
package docker
