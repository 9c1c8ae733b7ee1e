// Package snapshot is the snapshots of volumes: their records, their metadata, and
// the sagas that make and drop them on the node that keeps the volume.
//
// A snapshot's life, as status: creating -> available -> deleting -> gone; creating
// -> error; available <-> restoring while its volume is reverted to it. It counts
// against its volume's project's quota, in the service's ledger.
package snapshot
