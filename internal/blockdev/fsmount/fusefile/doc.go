// Package fusefile shows a disk that is served over NBD as one file, by FUSE: a loop
// device makes a block device of that, where the kernel has no NBD client.
//
// QEMU's storage daemon can do the same (--export type=fuse), but in QEMU 7.2 it takes
// a hole that is punched for advice, and the kernel zeroes by punching: what a file
// system believed to be zeroes was what had been there before.
//
// The process outlives strata, and ends when its file is unmounted. It gives up its
// rights once it has mounted. The numbers are those of include/uapi/linux/fuse.h.
package fusefile
