// Package container is this machine's container engine, which package dockerapi
// shows to docker's clients.
//
// It owns containers, their networks and volumes, and through containerd (package
// engine) images and layers. All of it is local to the node: it works while the
// control plane is away, as dockerd does, and so its records are not in the region's
// store but files beside the containers (see records).
//
// What always holds:
//
//   - A container's process belongs to its shim, not to us. Stop, crash and upgrade
//     leave it running; New finds it by its id, and an exit that happened meanwhile is
//     told of by the shim.
//   - A record is on disk before a client hears of it, and what exists on the machine
//     is named by the record's id: containerd's container and snapshot, namespace,
//     directory. New removes what has no record.
//   - One lifecycle operation at a time works on a container (op); its record is
//     guarded by mu, which is never held over a call that waits.
//
// States are Docker's:
//
//	created -> running <-> paused
//	running -> exited -> running
//	running -> restarting -> running      (by policy)
//	any -> removing -> gone
package container
