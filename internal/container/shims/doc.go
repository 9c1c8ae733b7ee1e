// Package shims keeps the processes that stand behind containers (package shim): which
// there are, who has room for one more container, and one that waits for the next.
//
// A shim takes about 15 ms of processor time to start and 4 MB; a further container
// behind one takes a tenth of that. So they are shared, and one is started before it is
// needed. They outlive us: each has a socket in Config.Dir, by which Open finds it. A
// shim whose last container has ended waits for the next one, or ends when another
// already does.
package shims
