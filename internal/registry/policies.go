package registry

import "github.com/strata-cloud/strata/internal/policy"

// The rules, and the actions of Docker's scopes that they stand for.
const (
	rulePull   = "registry:pull"
	rulePush   = "registry:push"
	ruleDelete = "registry:delete"
	ruleMirror = "registry:mirror"
)

// ruleOf gives the rule of an action of a scope.
func ruleOf(action string) string {
	switch action {
	case actionPull:
		return rulePull
	case actionPush:
		return rulePush
	case actionDelete:
		return ruleDelete
	}
	return ""
}

// Policies are the registry's own: upstream has no such service. A manager is the
// administrator of a project.
func Policies() []policy.Rule {
	const own = "project_id:%(project_id)s"
	return []policy.Rule{
		{Name: rulePull, Check: "role:reader and " + own},
		{Name: rulePush, Check: "role:member and " + own},
		{Name: ruleDelete, Check: "(role:admin or role:manager) and " + own},
		{Name: ruleMirror, Check: "role:reader"}, // "@": also who does not log in
	}
}
