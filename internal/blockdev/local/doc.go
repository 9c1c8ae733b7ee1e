// Package local keeps volumes in files of this node.
//
// A volume is a directory DIR/<id> with the qcow2 file vol-<id>, whose internal
// snapshots are the volume's, named by their ids. A volume made from an image is an
// overlay on vol-<id>.base, a hard link of the node's base image, so that it takes
// no time and no space; an encrypted one is a full copy, since the base is not
// encrypted. Content of encrypted volumes is LUKS inside of qcow2.
//
// Each pool is such a DIR. DIR/unmanaged.d has files that are no volumes; one becomes
// a volume under a second name first, and loses its own when the volume is complete.
//
// Crash story: a volume is made in <id>.new, flushed, and renamed; it is removed by
// way of <id>.gone. QEMU's own order of writes keeps a qcow2 file consistent when
// the program that changes it is killed: at worst some clusters are taken and used
// by nothing. A mark says that a change was under way, and the next change gives
// those clusters back first.
//
// The files belong to QEMU's user, and every program that parses them runs as that
// user.
package local
