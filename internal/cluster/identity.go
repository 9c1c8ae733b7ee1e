package cluster

import (
	"context"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Identity is the identity service.
type Identity interface {
	// Authenticate says whose a token is. Unauthenticated: nobody's, or not any more.
	Authenticate(ctx context.Context, token string) (*policy.Credentials, error)
	// DomainName is the name of a domain, or "".
	DomainName(ctx context.Context, id string) string
}

// What a user has besides a name, as upstream calls it (cloud-provider-openstack,
// pkg/identity/keystone/authenticator.go).
const (
	extraRoles       = "alpha.kubernetes.io/identity/roles"
	extraProject     = "alpha.kubernetes.io/identity/project/id"
	extraProjectName = "alpha.kubernetes.io/identity/project/name"
	extraDomain      = "alpha.kubernetes.io/identity/user/domain/id"
	extraDomainName  = "alpha.kubernetes.io/identity/user/domain/name"
)

// roleGroup begins the names of groups that stand for roles in the cluster's project.
const roleGroup = "strata:role:"

// reservedNames begin the names of users that mean something to a cluster.
var reservedNames = []string{"system:", "strata:"}

// errNobody is the answer to every token that opens nothing.
func errNobody() error {
	return errs.New(errs.Unauthenticated, "This token is nobody's in this cluster.")
}

// ReviewToken says who the holder of a token is in a cluster, to the node with its control
// plane. Tokens of other projects, and those that access rules confine to some requests of
// the region's APIs, are nobody's.
func (s *Service) ReviewToken(ctx context.Context, node, cluster, token string) (*nodeapi.KubeUser, error) {
	c, err := s.clusters.Get(cluster)
	if err != nil || c.Member != node {
		return nil, errs.Forbiddenf("node %s does not host the control plane of cluster %s", node, cluster)
	}
	who, err := s.Identity.Authenticate(ctx, token)
	switch {
	case errs.Is(err, errs.Unauthenticated) || errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid):
		return nil, errNobody()
	case err != nil:
		return nil, err
	case who.ProjectID == "" || who.ProjectID != c.ProjectID || len(who.AccessRules) > 0 || reserved(who.UserName):
		return nil, errNobody()
	}
	u := &nodeapi.KubeUser{Name: who.UserName, UID: who.UserID, Groups: groupsOf(who), Extra: map[string][]string{
		extraRoles: who.Roles, extraProject: {who.ProjectID}, extraProjectName: {who.ProjectName},
		extraDomain: {who.UserDomainID}, extraDomainName: {s.Identity.DomainName(ctx, who.UserDomainID)}}}
	return u, nil
}

func reserved(name string) bool {
	return name == "" || slices.ContainsFunc(reservedNames, func(p string) bool { return strings.HasPrefix(name, p) })
}

// groupsOf are the groups of a user: the project, as upstream has it, and one for each role.
func groupsOf(who *policy.Credentials) []string {
	out := []string{who.ProjectID}
	for _, r := range who.Roles {
		out = append(out, roleGroup+r)
	}
	return out
}
