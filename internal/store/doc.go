// Package store keeps every durable fact of the control plane.
//
// It owns one key space (embedded etcd, or memory in unit tests) and gives the
// services typed collections over it, with unique keys, RAM indexes,
// transactions, a change feed and ledgers. It is the only package that imports
// etcd.
//
// # Keys
//
//	/v1/<service>/<kind>/<2 hex shard>/<id>   a record: {"v":version,"body":{...}}
//	/u1/<service>/<kind>/<name>/<value>       a unique key, holding the id of its record
//	/sys/leader                               who leads, and in which epoch
//
// The shard is a hash of the id. It lets a large kind be loaded by 256
// parallel reads, because etcd counts the whole rest of a range for every page
// of it, which makes paging quadratic.
//
// # Invariants
//
//   - A call that has returned without an error is durable: its transaction was
//     fsynced by the backend. It is also visible: the cache of this process has
//     applied its revision.
//   - Reads never leave the process. Records in the cache are immutable and
//     shared; whoever wants to change one gets a deep copy from Update.
//   - One ordered watch over the whole key space feeds all caches, and a
//     revision is applied under one lock, so that a transaction over several
//     collections appears whole or not at all.
//   - A record and its unique keys are written by the same transaction, so the
//     unique keys are always exactly those of the live records. A unique key
//     that is free must be absent at commit; a unique key that another record
//     gives up in the same transaction is guarded by that record's revision.
//   - A transaction compares the revision of every record that it read by id,
//     or wrote, at commit. It does not guard against records that newly match
//     an index (phantoms): what must be counted exactly belongs to a ledger.
//     The unique keys are checked write by write, so two records that swap a
//     value let go of it first.
//   - A ledger's functions run one after another on the leader, and every one
//     of its commits is fenced by the leader's epoch. Counting an index there is
//     exact as long as all writers of the records it counts go through the
//     same ledger.
//
// # Crash story
//
// Nothing but the backend is durable; the caches, indexes and ledgers are
// rebuilt from it at Start. A process that dies before its transaction was
// fsynced has written nothing; one that dies after it has written all of it,
// even when the caller never heard. Callers therefore choose ids before they
// write, and repeat safely. An error of kind Unavailable means that the outcome
// is unknown; a ledger whose commit ends so begins a new epoch before it counts
// again, so that a commit still on its way cannot land behind its back. A single
// member that restarts takes its own leadership back at
// once, with the next epoch; a stale process that still believes to lead fails
// at its next commit. When the watch falls behind a compaction the caches are
// loaded anew and the difference goes to the change feeds.
package store
