// Package directory holds identity's records and the rules over them: who
// exists, who belongs to what, who holds which role where, and which endpoints
// there are. It knows nothing of HTTP and nothing of tokens.
//
// # Records
//
//	project        projects and domains; as in Keystone a domain is a project with
//	               IsDomain, so that its id is a valid root of a hierarchy
//	user, group, member, role, implied, assignment
//	region, service, endpoint, endpointgroup, endpointlink, policy
//	appcred, accessrule, credential, trust
//	reglimit, limit
//	revocation     "tokens like this, issued before then, are void"
//	keys           the token key set
//
// # Invariants
//
//   - Names are unique within their domain (declared unique keys).
//   - A deletion takes along what hangs on the record, dependents first, in one
//     transaction unless there are very many: no assignment, membership,
//     credential or trust outlives its owner.
//   - A domain is disabled before it is deleted; deleting it deletes all that is in it.
//   - A parent project cannot be deleted before its children, and a hierarchy lies
//     within one domain.
//   - Role implications may form circles; Expand visits each role once.
//   - Whatever is written goes through Directory.Write, which raises the generation
//     after the commit: caches of derived facts are valid for one generation.
//
// # Crash story
//
// A deletion that was cut short between two transactions has left the owner
// in place; deleting it again finishes.
package directory
