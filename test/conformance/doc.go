// Package conformance puts a real cloud before clients and suites that others
// wrote: the openstack command and Tempest, both from the distribution.
package conformance
