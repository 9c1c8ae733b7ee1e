// Package layers holds the rules of the repository's structure, as tests: who may
// import whom, that every package says what it is for, and what is not done anywhere.
//
// From the bottom up:
//
//	errs, keyed, listener, wait,
//	nodeapi                           vocabulary: import nothing of ours
//	dockerwire                        Docker's API on the wire, for docker and container
//	policy, store                     import the vocabulary
//	rest, saga, reconcile, nodes      import those
//	identity, image, placement,
//	network, compute, volume,
//	registry, docker, loadbalancer,
//	cluster                           services: never import each other
//	netns, process, kube, kubeapi, hypervisor, dataplane, blockdev, cgroup, configdrive, guest
//	                                  drivers of a node: know no service and no store
//	container                         the container engine of a node: drivers only
//	node                              the agent: drivers only, the control plane by interface
//	region                            wires everything
//	simulate                          a region of its own, and nodes that only say that they work
//	cli, cmd                          the command line
package layers
