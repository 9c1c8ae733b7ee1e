// Package pool is the hosts as operators see and group them: host aggregates,
// availability zones, compute services and hypervisors of the compute API.
//
// It owns the Aggregate and ServiceState records. What a host has and whether it
// is there comes from package nodes; what runs on it from the compute service.
//
// Invariants: all aggregates of a host that name an availability zone name the
// same one; the zone of a host on which servers run never changes; a host that no
// aggregate puts elsewhere is in DefaultZone.
//
// Numbers: before microversions 2.41 and 2.53 upstream names these objects by row
// numbers. Aggregates have a sequence; hosts get numbers and UUIDs made from their
// names (a hypervisor's UUID is that of its resource provider), which are the same on every member and after every restart.
package pool
