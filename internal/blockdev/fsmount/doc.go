// Package fsmount has volumes of block storage as file systems of this machine, for
// its containers.
//
// A kernel may have no NBD client, so a volume is brought here in three steps:
//
//	the volume's export (NBD, TLS with a pre-shared key; see package export)
//	-> qemu-storage-daemon, as QEMU's user -> a socket
//	-> strata-shim (package fusefile) -> the file DIR/<volume>/disk
//	-> a loop device -> the file system at DIR/<volume>/fs
//
// Both processes outlive us, and so does all that is above them. Neither has rights, but
// for the moment in which the second mounts; neither parses anything of the volume. The
// kernel does, as it does with a disk that somebody plugs in: file systems are checked
// first (e2fsck -p), and mounted with nosuid and nodev.
//
// Invariants: a volume is formatted only if it is blank to the last byte; it is
// mounted once however many containers have it; who has it is a file in
// DIR/<volume>/users, written before the volume is mounted, and the last who
// lets go of it unmounts it. The key is in a file for root alone, as the export's is,
// so that a machine that was started again mounts its volumes without being told.
//
// A volume may be had as a device as well, and with file systems and options that its users
// choose (Form). It grows while it is in use (Grow): the near daemon's export is made anew
// with the new size, and the file's daemon, whose connection that breaks, connects again.
//
// Crash story: Ensure looks at what there is. A mount whose daemon lives is good; any
// other is taken apart and made anew. Formatting that was cut off is marked by a file,
// and is done again.
package fsmount
