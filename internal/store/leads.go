package store

import "context"

// Leads asks the backend, not the memory of this process, whether it leads now: what
// was asked before the answer was asked of the leader.
func (db *DB) Leads(ctx context.Context) error { return db.stillLeads(ctx) }
