// Package pool is where volumes can be: the pools that nodes offer, the choice
// among them, and what administrators see of them as services, hosts and capabilities.
//
// It owns the records of disabled services; everything else is asked of the nodes.
package pool
