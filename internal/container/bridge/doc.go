// Package bridge is the networking of this machine's containers: what docker calls
// the driver bridge.
//
//	host            one veth (STRATAc) to a namespace; routes to containers' subnets;
//	  |             masquerading, published ports and who may come in: a table of nftables
//	STRATA-ctr      a bridge per network with its gateway's address, and leaves where it
//	  |             has many ports; which network may speak to which: a table
//	STRATA-c-ID     a namespace per container with a device for each of its networks
//	STRATA-s-ID     a namespace that waits for a container
//
// STRATA is the cloud's name on this machine. Nothing here needs our process to run,
// so that containers keep their network while it does not; their name server, whose
// sockets ListenDNS opens, is the exception. Sync makes what all share as it should be,
// Open, Connect and Route what one container has, Disconnect and Remove take it away;
// all of them may be repeated. Devices are named by the ids of endpoints, so that Sweep
// removes those that no one knows of, and Reset finds everything by the cloud's name.
package bridge
