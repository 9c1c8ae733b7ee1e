// Package simulate measures a control plane with far more nodes than there are
// machines. It starts a real region as a process of its own, lets any number of
// simulated nodes join it the way machines do, and creates, lists and deletes
// servers through its APIs.
//
// Real are the control plane, its store and its one node, tokens, certificates,
// both connections of each agent and everything that goes over them, the APIs and
// their clients. Simulated is what an agent does on its machine: it starts no
// guest, plugs no port and keeps no volume, and after a moment says that it has.
//
// Nothing is kept: when Run returns, however it ends, the region and its files are
// gone. The region ends with this process, even if that is killed.
package simulate
