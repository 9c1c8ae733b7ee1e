// Package nbd is a client of the network block device protocol, as much of it as
// reading, writing and flushing QEMU's exports takes, with structured replies and
// the allocation map (protocol: doc/proto.md of the NBD project).
//
// A client does one request at a time; its methods may be called from several
// goroutines.
package nbd
