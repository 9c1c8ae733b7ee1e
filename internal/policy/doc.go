// Package policy decides who may do what, in the rule language of oslo.policy.
//
// A rule is a boolean expression over checks: "role:admin and
// project_id:%(project_id)s", "rule:admin_or_owner", "system_scope:all", "@"
// (always), "!" (never), joined by and, or, not and parentheses. Services
// declare their rules with upstream's names and secure-RBAC defaults; an
// operator overrides any of them in policy.yaml. Rules are parsed once; a check
// allocates nothing.
//
// The language is described in the oslo.policy documentation,
// oslo_policy/policy.py.
package policy
