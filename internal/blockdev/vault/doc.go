// Package vault stores backups of volumes as chunks that are named by their content.
//
// A backup is a manifest: the names of the chunks that make up the volume, in order.
// A chunk that is there already is not stored again, so that an incremental backup
// costs only what changed, each manifest is whole by itself, and any backup may be
// deleted in any order. Chunks are compressed with zstd. Those of an encrypted volume
// are sealed with a key made of the volume's (AES-256-GCM), and named by a MAC
// instead of a hash, so that names tell nothing about the content.
//
// Invariants: a manifest appears when all its chunks are on stable storage; a chunk
// is removed only when no manifest names it and no backup is being made; what is
// read is checked against its name.
//
// A record of a backup can be taken out and brought back, also into another cloud
// that has the vault. It is sealed with a secret of the vault's, so that who asks for
// a backup has been given its record by somebody who could export it.
//
// Crash story: an interrupted backup leaves chunks without a manifest, an interrupted
// removal the same. They are of use to the next backup, and collected after the next
// removal.
package vault
