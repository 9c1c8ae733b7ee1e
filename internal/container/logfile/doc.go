// Package logfile is what containers write to standard output and error, kept
// on disk.
//
// The shim of a container writes, so that a log has no gap while strata stops,
// crashes or is upgraded, and strata reads, for docker logs as well as for docker
// attach. A record is a chunk exactly as it was read from the container: a prompt
// without a newline is there at once, and binary output survives.
//
//	1 byte stream, 3 zero bytes, 4 bytes length, 8 bytes Unix time in ns, then the
//	chunk; numbers are big-endian
//
// A record of the stream End says that a run of the container has written its last.
// A torn record, which a machine that loses power leaves, is cut off by the next
// writer and is the end for readers. A file that has grown beyond its limit is
// renamed to FILE.1, that to FILE.2 and so on; readers that follow find their place
// by the inode. One who is to miss nothing holds the file that it reads (flock): the
// writer, and with it the container, waits before it removes that one.
package logfile
