// Package netns makes, finds and enters named Linux network namespaces.
//
// A namespace is a file under Dir, as ip-netns(8) keeps them, so that
// `ip netns exec` works for the operator and the namespace outlives the
// process that made it. Every operation is idempotent. Code that must run
// inside a namespace is given to Do, which runs it on an OS thread of its own;
// sockets opened there stay in that namespace and work from any goroutine.
package netns
