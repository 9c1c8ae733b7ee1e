// Package identity is the identity API v3.14 (Keystone): who you are, where you
// may act, with which roles, and where the services are.
//
// It owns the records of package directory, the tokens of package token and the
// passwords of package password. Other services see it through three things:
// rest.Authenticator (what does this token say), Policies (the names of its
// rules) and Bootstrap (the accounts and the catalog of a new region).
//
// # Tokens
//
// A token is sealed text and stored nowhere. Validating one means: open it, look
// at the clock, look for a revocation, and resolve user, scope and roles as they
// are now; a role that was taken away is gone from tokens that are in use. What
// was resolved is kept in memory, by a hash of the text, for as long as no record
// of identity changes (directory.Generation).
//
//	issued ──► valid ──► expired
//	             │ └───► void    revoked, user or scope disabled or deleted, last role lost
//	             └─────► valid   rescoped: a new token, same expiry, same audit chain
//
// # Failed log-ins
//
// Every failure to authenticate is the same 401 with the same text, and an unknown
// user costs as much time as a wrong password.
//
// # Rules
//
// Every route is judged on its target before its handler runs (see route). Rules
// are those of keystone/common/policies.
//
// # Crash story
//
// All state is in the store or can be derived from it. Losing the process loses
// caches: the first validation of each token and the first log-in of each user
// are slower again.
package identity
