// Package volumes says what a driver of volumes does, in one interface that the
// node's agent calls and the conformance suite in blockdevtest checks.
//
// Invariants of every driver: a volume appears under its id only when it is
// complete; every method may be repeated with the same arguments, also after a
// crash in the middle of it; what a method only reads is never changed by it; a
// method returns when its work is safe on stable storage. Callers make sure that
// one method at a time works on a volume, except that Open and Read may work
// beside the others as long as the snapshot that they show is not deleted.
package volumes
