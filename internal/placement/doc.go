// Package placement is the placement service, API 1.0 to 1.39: what the pool has,
// and who holds how much of it.
//
// It owns three kinds of records: Provider (with its inventories, traits,
// aggregates and the sum of what is allocated from it), Consumer (with its
// allocations), and the custom resource classes and traits.
//
// Invariants: Provider.Used is always the sum of the consumers' allocations from
// that provider, because both are written by one transaction of the ledger
// "placement", which all writes of this package go through. No allocation is
// accepted beyond (total - reserved) * allocation_ratio, nor one that breaks
// min_unit, max_unit or step_size. A consumer exists exactly while it has
// allocations. A provider's generation grows with every change of its inventories,
// traits, aggregates (since 1.19) and with each allocation made from it; a
// consumer's with each change of its allocations.
//
// Crash story: every operation is one transaction. A claim names its consumer,
// so repeating it replaces the same allocation.
package placement
