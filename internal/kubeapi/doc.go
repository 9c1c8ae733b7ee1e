// Package kubeapi is a small client of the API of Kubernetes clusters, for the little that
// Strata itself says to one: get, list, server-side apply, patch, delete, and following
// what changes. Objects are the caller's own types, or maps, in JSON.
//
// Upstream's library knows every type and takes 30 MB of the program and of its memory. Who
// needs that has kubectl.
//
// Source: Kubernetes API concepts ("Efficient detection of changes", "Server-side apply").
package kubeapi
