// Package compute is the compute service, API v2.1 (Nova): servers and their
// actions, with flavors and keypairs in packages of their own.
//
// It owns the Server records and, as their only writer, the Instance records that
// tell a node what to run. A node's agent owns the InstanceStatus; this package
// only reads it.
//
// A server's life, as vm_state/task_state (upstream's names, which are on the wire):
//
//	building/scheduling -> building/networking -> building/spawning -> active/-
//	active/powering-off -> stopped/-      stopped/powering-on  -> active/-
//	active/pausing      -> paused/-       paused/unpausing     -> active/-
//	active/suspending   -> suspended/-    suspended/resuming   -> active/-
//	active/rebooting, active/reboot_started_hard             -> active/-
//	active|stopped|error/rebuilding -> active or stopped
//	active|stopped/resize_prep -> resized/- -> (confirmed, or resize_reverting) active or stopped
//	active|paused/migrating -> as before, on another host
//	any of active, stopped, error on a host that is down/rebuilding -> active or stopped, on another
//	active|stopped|error/rescuing   -> rescued/-  rescued/unrescuing   -> active/-
//	any of active, stopped, paused, suspended: /image_snapshot or image_backup -> image_uploading -> as before
//	the same four/shelving -> shelving_offloading -> shelved_offloaded/-
//	shelved_offloaded/unshelving -> spawning -> active/-
//	any that has a host/soft-deleting -> soft-delete/-  soft-delete/restoring -> active/-
//	any/deleting -> deleted               any -> error/- (with a fault)
//
// Invariants: a server that is not deleted and has a host holds exactly one
// allocation in placement, consumer id = server id, and one more under the id of its
// resize or live migration until that has ended; its record and its Instance name the same
// host, and change it in one transaction; every port whose device is a
// server belongs to a server that exists; quota usage is counted from the records
// inside the ledger "compute", never stored.
//
// Crash story: a request writes the server and its saga in one transaction and
// answers; from there the saga's log carries it to an end, whatever dies. A
// delete cancels what is under way and insists until every trace is gone. After a
// saga has ended, follow (reconcile.go) keeps the record true to what the node observes.
package compute
