// Package dockerwire is Docker's Engine API as it looks on the wire, whoever answers:
// the engine of a machine (internal/container/dockerapi) or the region's gateway for
// projects (internal/docker). It knows versions, paths, bodies and errors, and no
// operation.
//
// The specification is moby's api/swagger.yaml, and for what that leaves open its
// api/server.
package dockerwire
