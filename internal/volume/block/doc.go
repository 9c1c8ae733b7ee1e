// Package block is what all parts of the volume service work on: the records of
// volumes, snapshots, groups, attachments and backups, their states, who may see them,
// what a project has of them, and the way to the node that keeps a volume.
//
// A volume's life, as status (upstream's names, which are on the wire):
//
//	creating -> available <-> extending, uploading, retyping, reverting, backing-up,
//	                          restoring-backup, awaiting-transfer, downloading, maintenance
//	managing -> available -> unmanaging -> gone      managing -> error_managing
//	available -> reserved -> attaching -> in-use -> detaching -> available
//	available, error... -> deleting -> gone          creating -> error
//
// One writer per field: requests and the sagas that they begin, never a node.
package block
