// Package dhcp answers DHCP on one network. Addresses are decided by the
// control plane, so the server keeps no leases: it looks the client's hardware
// address up among the network's ports and says what that port has. What it
// knows comes from a function that gives the current segment; a change of the
// network needs no restart.
//
// References: RFC 2131, 2132, 3442 (DHCPv4), RFC 8415 (DHCPv6).
package dhcp
