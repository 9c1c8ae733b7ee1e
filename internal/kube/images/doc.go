// Package images has a worker's containerd and kubelet pull images by way of the region's
// registry: those of the cluster's project, and those of registries that the region mirrors.
//
// containerd speaks to a relay of the agent, on loopback, and the relay passes on over the
// node's link. So a worker needs no way to the region's API, no certificate of it and no
// name server, and finds whichever control member leads. The relay speaks TLS with a
// certificate of its own, and answers who shows a secret: both are made anew whenever it
// starts, and are in files that root alone reads. Nobody else on the machine can take the
// relay's place while it is away, and nobody else can use it: mirrors need no credentials.
//
// kubelet asks by its plugin (package credentials), at a socket, for a name and a password of
// the region's own registry. They come from the control plane, which knows what the node works
// for; they are good for a while, and on no disk. For mirrors there are none: what a person
// has at another registry goes to that registry alone.
//
//	DIR/NAME/hosts.toml   of a registry by its name in images' names, as containerd reads it
//	DIR/NAME/relay.crt    whom it believes there
//
// Invariant: an answer that is not the relay's is never believed, and a request for one
// registry is never answered from another's images.
//
// Crash story: without the agent the files name a relay that does not answer. containerd then
// asks mirrored registries themselves; the region's own has to wait. What is there is
// overwritten when the agent comes back.
//
// Source: containerd, docs/hosts.md.
package images
