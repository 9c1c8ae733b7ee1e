// Package ipam chooses the subnets of containers' networks and the addresses of
// containers in them.
//
// It keeps nothing: who calls it says what is taken. Answers are dockerd's: the
// predefined pools in its order, and the lowest address that is free.
package ipam
