// Package rest is the kit that every HTTP API of Strata is built from.
//
// A service is an API value: a prefix, a fault encoder, a microversion range and
// a table of routes. The kit turns the table into a handler that does, once and
// in this order: request id, routing (404 and 405 in the family's envelope),
// authentication, microversion negotiation, policy, size limit, JSON-schema
// validation, the handler, and the encoding of its answer or error; around it an
// access log and metrics. Handlers get a *Request and return a *Response or an
// error of package errs; they never write to the socket and never format a fault.
//
// Microversions are resolved before the handler runs: a route names the range in
// which it exists, Request.Version is what was negotiated, and only routes and
// views look at it. The same tables generate docs/compat.md.
//
// Upstream: the api-guide of each service, the api-wg guidelines on errors,
// microversions and version discovery, and keystonemiddleware for 401 answers.
package rest
