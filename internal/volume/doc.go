// Package volume is the block storage service, API v3 (Cinder): volumes and their
// actions; types, quotas, snapshots, groups, attachments, backups, transfers and pools
// have packages of their own, over the records of package block.
//
// It owns the Volume records (package block draws their states). A node keeps a
// volume's data and is told what to do with it by sagas, through nodes.Storage,
// whose calls are named by our ids and may be repeated.
//
// Invariants: quota usage is counted from the records inside the ledger "volume",
// never stored; a volume with a node has its data there or is on its way there or
// away; whoever adds an attachment does it in the transaction that checks the
// volume's status; a volume's sagas run one after another.
//
// Crash story: a request writes the record, in a state that shuts out other work,
// and its saga in one transaction and answers; from there the saga's log carries
// it to an end, whatever dies. A delete insists until the node has let go. A move
// copies, makes the copy the volume in one transaction, and leaves the other place
// to a saga that insists: up to that transaction the source is untouched.
package volume
