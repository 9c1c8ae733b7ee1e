package store

// Counts tells how many records there are of each service/kind.
func (db *DB) Counts() map[string]int {
	db.mu.RLock()
	defer db.mu.RUnlock()
	out := make(map[string]int, len(db.tables))
	for _, t := range db.tables {
		out[t.kind()] = t.count()
	}
	return out
}
