// Package rootfs is what the engine sees of a container's files from outside: it
// copies them in and out as archives, and tells what has changed.
//
// A container owns its files and may exchange one for a symbolic link at any time.
// So each path is resolved by the kernel within the root (openat2, RESOLVE_IN_ROOT),
// and what is done there is done from a directory's descriptor, without following the
// last element: nothing outside the root is read or written, whatever runs inside.
//
// The files of a container that runs are seen through its process, with its volumes.
// Those of one that does not are mounted for the time in a mount namespace of one
// thread, so that a crash leaves no mount behind.
package rootfs
