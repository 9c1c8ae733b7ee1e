// Package dockerapi is the Docker Engine API over package container, for clients of
// versions 1.24 to 1.50.
//
// The route table is in routes.go. Handlers decode, call and view; an error becomes
// {"message": ...} with upstream's status in one place. A route that is not in the
// table does not exist: 404, as from dockerd. What upstream has besides is listed in
// docs/guide/containers.md.
package dockerapi
