// Package bridge is the networking of this machine's containers: what docker calls
// the driver bridge.
//
//	host            one veth (STRATAc) to a namespace; routes to containers' subnets;
//	  |             masquerading, published ports and who may come in: a table of nftables
//	STRATA-ctr      a bridge per network with its gateway's address; which network may
//	  |             speak to which: a table
//	STRATA-c-ID     a namespace per container with eth0
//
// STRATA is the cloud's name on this machine. Nothing here needs our process to run,
// so that containers keep their network while it does not. Sync makes what all share
// as it should be, Plug and Unplug what one container has; all of them may be
// repeated, and Reset finds everything by the name.
package bridge
