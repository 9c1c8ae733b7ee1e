// Package integrity tests that no flushed byte of a volume is ever lost.
//
// Random sequences of writing, flushing, snapshots, clones, extending, reverting,
// backups and restoring run against real processes, of which any may be killed at
// any moment: the QEMU or the storage daemon that has the volume open, and the
// agent (a process of its own here) in the middle of an operation, which is then
// repeated. A model knows for each block which contents it may have: exactly one,
// unless the writer was killed before a flush.
//
// It has tests only: `make integrity` runs 1,000 sequences, the unit tests a few.
package integrity
