// Package hypervisor runs virtual machines, each a QEMU process of its own.
//
// A machine is known by its server's id and lives in one directory,
// DIR/<id>: its disks and config drive (put there by the caller), QEMU's
// sockets, the console log, the saved memory of a suspended machine, and
// state.json, the launch spec with the process that runs it. QEMU starts with
// that directory as its working directory and an unprivileged uid that can read
// nothing else, in a session and a cgroup of its own, with the seccomp sandbox.
// Taps are handed over as open descriptors.
//
// Invariants: one process per id at most; state.json is written before a start
// is reported; every operation may be repeated; a machine's process never
// depends on ours. Crash story: New reads each state.json, recognises the
// process by pid and start time, connects to its monitor and goes on; a reboot
// that was under way is finished. A process that ended meanwhile is reported as
// stopped, or as suspended when its memory was saved completely.
//
// A machine that was started as a template is frozen into its memory, its devices
// and its disks (Freeze); others go on from there instead of booting (Clone). They
// map its memory privately, out of sealed memory that no QEMU can change. A clone
// that a crash of ours cut in half is ended unless its guest runs, so that its
// disks are as they were.
//
// A running machine's disk can be closed and opened in another way (SwapDisk). The
// guest stands still meanwhile, and nothing continues it before the disk is open: a
// driver that finds such a machine after a crash leaves that to its caller.
//
// A machine moves to another host (Receive there, Send here) with its own disks and,
// when it runs, its memory. The sending host decides: from the moment in which its
// state.json says done the machine is the other's, and before it never was. The
// receiving one waits for that word with everything loaded and nothing running. A
// driver that was closed before done undoes the move, one that was closed after it
// repeats the word; see docs/rfd/0008.
//
//	           Start, Clone          Pause
//	stopped ----------> running <-----------> paused
//	   ^                 |  |  ^     Resume
//	   |   Stop, guest   |  |  | Restore
//	   +-----------------+  |  +--------- suspended
//	   |                    +----------------^
//	crashed <- QEMU died        Suspend
package hypervisor
