// Package attach is who uses a volume: claims on it, from the moment somebody
// reserves it until it is detached, by the attachments API (3.27) and by the
// older actions on volumes.
//
// Invariants: a volume that is not multi-attach has one server at most; an
// attachment and the status of its volume change in one transaction; what the
// compute service attached, only the compute service detaches.
package attach
