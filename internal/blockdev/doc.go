// Package blockdev makes and removes the disks of servers on a node, and tells
// what a disk image is by looking at its content alone.
//
// A server's root disk is a qcow2 overlay on a base that many servers share and
// none may write. The base is linked into the server's directory, so that the
// directory has all that the machine reads and the base cannot vanish under it.
// Every function may be repeated; a disk appears under its name only when it is
// complete.
//
// Images come from tenants. Inspector decides from their bytes, never from what
// their owner says, and refuses images that make the host open other files:
// backing files, external data files, extents elsewhere.
package blockdev
