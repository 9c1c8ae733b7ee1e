// Package rbd keeps volumes in a Ceph cluster, as RBD images that QEMU reads and
// writes by its own driver.
//
// A volume is the image vol-<id>, its snapshots are the image's. A new one is made
// as vol-<id>.new, flushed, and renamed: an image without that ending is complete.
// A copy is a full one and depends on nothing. Ceph does each change of an image as
// a whole; what was interrupted is begun again.
//
// Programs run as QEMU's user, with a directory of their own that has Ceph's
// configuration and the key of one Ceph user, who needs the capabilities
// "mon 'profile rbd'" and "osd 'profile rbd pool=POOL'" and no more.
package rbd
