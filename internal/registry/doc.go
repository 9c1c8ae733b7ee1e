// Package registry is the region's registry of container images: /v2/ of the OCI
// distribution API, with tokens from identity.
//
// The protocol is the work of github.com/distribution/distribution, which is an
// http.Handler here. What surrounds it is ours: who may do what, where things
// are kept, and what is removed when.
//
// # Names
//
// A repository belongs to a project and is kept as PROJECT-ID/NAME. The id never
// changes, whatever becomes of the project's name. In a request the first element may
// also be the name of the caller's own project, as it is now: "demo/web" is
// "4f…/web" to whoever acts in demo. No name reaches another project, so names
// that two domains both have do no harm.
//
// # Who may
//
// A client shows a token of /v2/token (Docker's token flow), or one of identity's in
// X-Auth-Token. A token of ours holds one of identity's, sealed, and what it was
// asked for. It is resolved at every request: roles that were taken away and
// application credentials that were deleted count at once. Rules are in policies.go.
//
// A machine that works for a cluster of Kubernetes shows a password that the control plane
// has given it (WorkerPassword): it pulls what is of the cluster's project, for as long as it
// works for that. Which project that is, is asked at every request as well.
//
// # What is kept where
//
// The store has what exists: a Link for each tag, manifest and layer of a
// repository, and a Blob for each content. The content itself is a file,
// DIR/blobs/sha256-HEX, which never changes; other members of the control plane copy
// these files (Files). DIR/uploads has what is coming in, and does not outlive the
// process.
//
// Invariants: a Blob is recorded after its file was fsynced, and its file is
// removed after its record; a Link is recorded after its Blob.
//
// # Sweeping
//
// A layer that no manifest of its repository names, and a blob that nothing links
// to, are removed when nobody has asked for them for Options.Keep. A push asks for
// every layer before it relies on it, so what it found is there when its manifest comes.
// When the process starts, all of it counts as asked for.
//
// # Mirrors
//
// A registry of others that the operator names is mirrored: its images are brought in when
// they are asked for, and kept as mirror/HOST/NAME, which is of no project. What a tag
// is, is asked each time, and remembered for when the registry is away. Content is believed
// for its digest alone. It is looked for in a mirror only under a name that says whose it
// is: by the path, by the namespace that containerd sends, or by being one of Docker's own
// images ("library/…"). A name of a project is never looked for elsewhere.
//
// Invariant: a Link of a mirror's repository is recorded after the registry has shown
// that it has the content there; so nothing private is had by its digest.
//
// Crash story: whatever dies leaves at most files that no record names, which
// Start removes, and layers that no manifest names, which are swept.
package registry
