// Package engine runs containerd inside this process: content, snapshots, images,
// leases, garbage collection and tasks, without CRI, without its gRPC API and
// without its configuration file.
//
// containerd is a set of plugins that find each other in a registry. Importing a
// package registers one; this package imports those that are needed and sets them
// up itself, since containerd's own server would bring its listeners, flags and
// remaining plugins along.
//
// Containers outlive this process: each has a shim (package shim), found again
// through the state directory. One socket is served, on which shims report events;
// its path goes into the shims, so that it must not change over restarts. Shims'
// own sockets are in a directory with a short path, below /run, since a path of a
// Unix socket has at most 106 bytes.
package engine
