// Package saga runs bounded, user-visible work over several resources: steps
// with an undo each, and a log in the store that survives any crash.
//
// A saga begins in the transaction that writes the user's intent, so that the
// two exist together or not at all. The engine runs its steps in order and
// writes the log after each: a step that was under way when the process died is
// run again, so every Do and every Undo must be idempotent and must name what it
// makes by ids that were chosen before the saga began. When a step fails, its own
// Undo and then those of the earlier steps run, newest first, then the
// definition's Failed. An undo that fails is never dropped: it is tried again,
// with growing pauses, until it succeeds.
//
// Sagas on the same resource run one after another in the order in which they
// began; different resources run side by side. Cancel makes a saga unwind at its
// next step: that is how a delete overtakes a create.
//
// What must stay true for ever is not a saga but a reconciler (package reconcile).
// Package saga/sagatest repeats each step, fails each step, doubles each undo and
// kills the engine after each log write; every definition must pass it.
package saga
