// Package backup is the backups of volumes and of snapshots, full and incremental:
// their records and the sagas that make, restore and drop them on the node whose
// vault holds them.
//
// A backup's life, as status: creating -> available -> restoring -> available;
// available, error -> deleting -> gone. A backup that others add to stays.
package backup
