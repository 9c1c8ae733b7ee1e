// Package export serves volumes over NBD, so that several machines can have one
// open: one qemu-storage-daemon per volume, which alone has the volume's file open.
//
// An export is a directory DIR/<volume id>: links of the volume's files, the
// daemon's monitor and its socket, of which machines get hard links, so that they
// need to see nothing else.
//
// Instead of the socket the daemon may listen at a TCP address, for other hosts and
// this one's machines alike, with TLS and a pre-shared key (PSK) per user. The address is the
// export's for as long as it lasts. Invariant: who is not among the users of the
// last Serve has no connection when that returns.
//
// A daemon belongs to its directory: it is the process that works there. So a new
// agent finds it, whatever it remembers, and there is never a second one; should
// there be, the lock on the volume's file stops it. A daemon that ends although it
// is wanted is started again within a second; clients reconnect and repeat what was
// not answered. The daemon runs as QEMU's user without any privilege, in a control
// group of its own.
package export
