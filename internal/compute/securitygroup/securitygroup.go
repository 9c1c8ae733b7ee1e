// Package securitygroup is the compute service's own, older API of security groups
// (os-security-groups): a view of what the network service keeps.
package securitygroup

import (
	"context"

	"github.com/strata-cloud/strata/internal/rest"
)

// Groups is what this API needs of the network service. The request says who asks:
// the network service's policy and quotas hold.
type Groups interface {
	// Describe gives the groups with those ids that exist.
	Describe(ctx context.Context, ids []string) ([]Group, error)
	// List gives the groups of the caller's project, or all, by project and name.
	List(ctx context.Context, r *rest.Request, all bool) ([]Group, error)
	Get(ctx context.Context, r *rest.Request, id string) (*Group, error)
	Create(ctx context.Context, r *rest.Request, name, description string) (*Group, error)
	Update(ctx context.Context, r *rest.Request, id, name, description string) (*Group, error)
	Delete(ctx context.Context, r *rest.Request, id string) error
	// AddRule makes an ingress rule; a Conflict with the code
	// "SecurityGroupRuleExists" when the group has it.
	AddRule(ctx context.Context, r *rest.Request, n NewRule) (*Rule, error)
	DropRule(ctx context.Context, r *rest.Request, id string) error
}

// NewRule is an ingress rule to be made; empty or nil means any.
type NewRule struct {
	Group, Protocol   string
	FromPort, ToPort  *int // for ICMP its type and code
	CIDR, RemoteGroup string
}

// Group is what compute shows of a security group.
type Group struct {
	ID, Name, Description, ProjectID string
	Rules                            []Rule
}

// Rule is an ingress rule; protocol and ports are empty when it is for any.
type Rule struct {
	ID, Protocol                  string
	FromPort, ToPort              *int
	CIDR                          string // remote prefix, or ""
	RemoteGroup, RemoteGroupOwner string // name and project of the remote group, or ""
}

// Proxy shows the network service's groups in the older form.
type Proxy struct {
	Groups Groups
	// OfServer lists the ids of the security groups on the ports of the server of
	// the request's path, if the caller may know it.
	OfServer func(r *rest.Request) ([]string, error)
}
