package network

import (
	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
)

// Actions and targets of RBAC records (neutron/db/rbac_db_models.py).
const (
	actShared   = "access_as_shared"
	actExternal = "access_as_external"
	everyone    = "*"
)

// granted tells whether everyone, or the caller's project, may do that with the object.
func (c *call) granted(object, action string) bool {
	for _, r := range by(c, c.rbacs, "object", object) {
		if r.Action == action && (r.Target == everyone || r.Target == c.project()) {
			return true
		}
	}
	return false
}

func (c *call) grant(project, object, action, target string) error {
	return c.rbacs.TxCreate(c.tx, &RBAC{Base: Base{ID: uuid.NewString(), ProjectID: project, Created: c.now, Updated: c.now},
		ObjectType: "network", ObjectID: object, Action: action, Target: target})
}

// revoke takes an action on the object from everyone.
func (c *call) revoke(object, action string) error {
	return c.revokeIf(object, func(r *RBAC) bool { return r.Action == action })
}

func (c *call) revokeTarget(object, action, target string) error {
	return c.revokeIf(object, func(r *RBAC) bool { return r.Action == action && r.Target == target })
}

// forget drops all that was said about an object that goes away.
func (c *call) forget(object string) error {
	return c.revokeIf(object, func(*RBAC) bool { return true })
}

func (c *call) revokeIf(object string, which func(*RBAC) bool) error {
	for _, r := range by(c, c.rbacs, "object", object) {
		if which(r) {
			if err := c.rbacs.TxDelete(c.tx, r.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func rbacResource(s *Service) *resource[RBAC] {
	base := (*RBAC).base
	text := func(name string, at func(*RBAC) *string, in attr.Access, check attr.Check) column[RBAC] {
		return column[RBAC]{Name: name, In: in, Required: true, Check: check,
			Get: func(r *RBAC, _ *call) any { return *at(r) }, Set: func(r *RBAC, x any) { *at(r) = x.(string) }}
	}
	target := text("target_tenant", func(r *RBAC) *string { return &r.Target }, both, attr.NotEmpty(maxText))
	target.Own = "create update"
	return &resource[RBAC]{
		Service: s, name: "rbac_policy", plural: "rbac_policies", path: "/rbac-policies", quota: "rbac_policy", coll: s.rbacs,
		base: base, notFound: missing("RbacPolicyNotFound", "RBAC policy of type network with ID %s not found"),
		table: attr.NewTable("rbac_policy", []column[RBAC]{
			{Name: "id", Get: func(r *RBAC, _ *call) any { return r.ID }},
			{Name: "tenant_id", Get: func(r *RBAC, _ *call) any { return r.ProjectID }},
			{Name: "project_id", Get: func(r *RBAC, _ *call) any { return r.ProjectID }},
			text("object_type", func(r *RBAC) *string { return &r.ObjectType }, attr.Post, attr.NotEmpty(maxText)),
			text("object_id", func(r *RBAC) *string { return &r.ObjectID }, attr.Post, attr.UUID),
			text("action", func(r *RBAC) *string { return &r.Action }, attr.Post, attr.NotEmpty(maxText)),
			target,
		}),
		hints:  map[string]string{"object_id": "object"},
		target: func(_ *call, r *RBAC, t policy.Target) { t["target_tenant"] = r.Target },
		create: createRBAC, update: updateRBAC, remove: removeRBAC,
	}
}

// createRBAC shares what the caller owns: networks, and security groups, address scopes and subnet pools.
func createRBAC(c *call, r *RBAC, _ attr.Values) error {
	var owner string
	var err error
	actions := []string{actShared}
	switch r.ObjectType {
	case "network":
		actions = []string{actExternal, actShared}
		owner, err = ownerOf(c, c.network, r.ObjectID)
	case "security_group":
		owner, err = ownerOf(c, c.group, r.ObjectID)
	case "address_scope":
		owner, err = ownerOf(c, c.scope, r.ObjectID)
	case "subnetpool":
		owner, err = ownerOf(c, c.pool, r.ObjectID)
	default:
		return badRequest("Invalid input for object_type. Reason: '%s' is not in ['address_scope', 'network', 'security_group', 'subnetpool'].", r.ObjectType)
	}
	if err != nil {
		return err
	}
	if owner != c.project() && !c.admin() {
		return conflict("Conflict", "Only admins can manipulate policies on objects they do not own")
	}
	if _, err := attr.OneOf(actions...)(r.Action); err != nil {
		return invalid("Invalid action '%s' for object type '%s'. Valid actions: %s", r.Action, r.ObjectType, actions)
	}
	return c.freeRBAC(r)
}

func (c *call) freeRBAC(r *RBAC) error {
	if _, used := c.rbacs.TxUnique(c.tx, "policy", r.ObjectID+"/"+r.Action+"/"+r.Target); used {
		return conflict("DuplicateRbacPolicy", "An RBAC policy already exists with those values.")
	}
	return c.syncExternal(r, true)
}

// syncExternal keeps router:external equal to whether anybody may use the network as external.
func (c *call) syncExternal(r *RBAC, on bool) error {
	if r.Action != actExternal {
		return nil
	}
	if !on {
		for _, x := range by(c, c.rbacs, "object", r.ObjectID) {
			if x.ID != r.ID && x.Action == actExternal {
				return nil
			}
		}
	}
	_, err := c.networks.TxUpdate(c.tx, r.ObjectID, func(n *Network) error {
		n.External = on
		return nil
	})
	return err
}

func ownerOf[T any](c *call, rs *resource[T], id string) (string, error) {
	v, err := rs.find(c, id)
	if err != nil {
		return "", err
	}
	return rs.base(v).ProjectID, nil
}

func updateRBAC(c *call, old, r *RBAC, _ attr.Values) error {
	if old.Target == r.Target {
		return nil
	}
	if err := removeRBAC(c, old); err != nil {
		return err
	}
	return c.freeRBAC(r)
}

// removeRBAC refuses to take access from a project that uses it.
func removeRBAC(c *call, r *RBAC) error {
	if c.rbacUsed(r) {
		return conflict("RbacPolicyInUse", "RBAC policy on object %s cannot be removed because other objects depend on it.\nDetails: the target project uses it", r.ObjectID)
	}
	return c.syncExternal(r, false)
}

func (c *call) rbacUsed(r *RBAC) bool {
	owner := ""
	if n, err := get(c, c.networks, r.ObjectID); err == nil {
		owner = n.ProjectID
	}
	uses := func(project string) bool {
		return project != "" && project != owner && (r.Target == everyone || r.Target == project)
	}
	switch {
	case r.ObjectType == "network" && r.Action == actShared:
		for _, p := range by(c, c.ports, "network", r.ObjectID) {
			if uses(p.ProjectID) {
				return true
			}
		}
	case r.ObjectType == "network" && r.Action == actExternal:
		for _, x := range by(c, c.routers, "gateway", r.ObjectID) {
			if uses(x.ProjectID) {
				return true
			}
		}
	}
	return false
}
