package network

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/network/attr"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// Directions and ether types of rules.
const (
	ingress = "ingress"
	egress  = "egress"
	ipv4    = "IPv4"
	ipv6    = "IPv6"
)

const defaultName = "default"

func groupResource(s *Service) *resource[SecurityGroup] {
	base := (*SecurityGroup).base
	rs := &resource[SecurityGroup]{
		Service: s, name: "security_group", plural: "security_groups", path: "/security-groups", quota: "security_group", coll: s.groups,
		bulk: true, base: base, notFound: missing("SecurityGroupNotFound", "Security group %s does not exist"),
		table: attr.NewTable("security_group", common(base, true), []column[SecurityGroup]{
			boolean("stateful", both, "", true, func(g *SecurityGroup) *bool { return &g.Stateful }),
			{Name: "shared", Get: func(g *SecurityGroup, c *call) any { return c.granted(g.ID, actShared) }},
			{Name: "security_group_rules", NoFilter: true, NoSort: true, Get: func(g *SecurityGroup, c *call) any {
				rules := by(c, c.rules, "group", g.ID)
				out := make([]map[string]any, len(rules))
				for i, r := range rules {
					out[i] = c.rule.view(c, r, nil)
				}
				return out
			}},
		}),
		target: func(c *call, g *SecurityGroup, t policy.Target) { t["shared"] = truth(c.granted(g.ID, actShared)) },
		create: createGroup, update: updateGroup, remove: removeGroup,
	}
	return rs
}

func createGroup(c *call, g *SecurityGroup, _ attr.Values) error {
	if g.Name == defaultName {
		return conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	if _, err := c.defaultGroup(g.ProjectID); err != nil {
		return err
	}
	return c.baseRules(g, false)
}

// baseRules let everything out; the default group also lets its own members in.
func (c *call) baseRules(g *SecurityGroup, members bool) error {
	for _, ether := range []string{ipv4, ipv6} {
		if members {
			if err := c.writeRule(g, SecurityRule{Direction: ingress, EtherType: ether, RemoteGroup: g.ID}); err != nil {
				return err
			}
		}
		if err := c.writeRule(g, SecurityRule{Direction: egress, EtherType: ether}); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) writeRule(g *SecurityGroup, r SecurityRule) error {
	r.Base = Base{ID: uuid.NewString(), ProjectID: g.ProjectID, Created: c.now, Updated: c.now}
	r.GroupID = g.ID
	return c.rules.TxCreate(c.tx, &r)
}

// defaultGroup finds the project's default group, or makes it: it exists from
// the first time anybody looks (neutron/db/securitygroups_db.py, _ensure_default_security_group).
func (c *call) defaultGroup(project string) (*SecurityGroup, error) {
	if g, ok := c.groups.TxUnique(c.tx, "default", project); ok {
		return g, nil
	}
	g := &SecurityGroup{Base: Base{ID: uuid.NewString(), ProjectID: project, Name: defaultName, Description: "Default security group",
		Created: c.now, Updated: c.now, Revision: 1}, Stateful: true, Default: true}
	if err := c.groups.TxCreate(c.tx, g); err != nil {
		return nil, err
	}
	return g, c.baseRules(g, true)
}

func updateGroup(c *call, old, g *SecurityGroup, _ attr.Values) error {
	if old.Default && g.Name != old.Name {
		return conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
	}
	if !old.Default && g.Name == defaultName && old.Name != defaultName {
		return conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	if old.Stateful != g.Stateful && len(by(c, c.ports, "group", g.ID)) > 0 {
		return conflict("SecurityGroupInUse", "Security Group %s in use.", g.ID)
	}
	return nil
}

func removeGroup(c *call, g *SecurityGroup) error {
	if len(by(c, c.ports, "group", g.ID)) > 0 {
		return conflict("SecurityGroupInUse", "Security Group %s in use.", g.ID)
	}
	if g.Default && !c.admin() {
		return conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
	}
	for _, r := range by(c, c.rules, "group", g.ID) {
		if err := c.rules.TxDelete(c.tx, r.ID); err != nil {
			return err
		}
	}
	// Rules of other groups that let this one's members in let nobody in any more.
	for _, r := range by(c, c.rules, "remote", g.ID) {
		if r.GroupID == g.ID {
			continue
		}
		if err := c.rules.TxDelete(c.tx, r.ID); err != nil {
			return err
		}
	}
	return c.forget(g.ID)
}

func ruleResource(s *Service) *resource[SecurityRule] {
	base := (*SecurityRule).base
	id := func(name string, required bool, at func(*SecurityRule) *string) column[SecurityRule] {
		return column[SecurityRule]{Name: name, In: attr.Post, Required: required, Check: attr.NoneAs("", attr.String(maxText)),
			Get: func(r *SecurityRule, _ *call) any { return orNil(*at(r)) }, Set: func(r *SecurityRule, x any) { *at(r) = x.(string) }}
	}
	number := func(name string, at func(*SecurityRule) **int) column[SecurityRule] {
		return column[SecurityRule]{Name: name, In: attr.Post, Check: attr.OrNone(portNumber), Get: func(r *SecurityRule, _ *call) any {
			if *at(r) == nil {
				return nil
			}
			return **at(r)
		}, Set: func(r *SecurityRule, x any) {
			if n, ok := x.(int); ok {
				*at(r) = &n
			}
		}}
	}
	return &resource[SecurityRule]{
		Service: s, name: "security_group_rule", plural: "security_group_rules", path: "/security-group-rules", quota: "security_group_rule", coll: s.rules,
		bulk: true, base: base, notFound: missing("SecurityGroupRuleNotFound", "Security group rule %s does not exist"),
		hints: map[string]string{"security_group_id": "group", "remote_group_id": "remote"},
		table: attr.NewTable("security_group_rule", common(base, false), []column[SecurityRule]{
			id("security_group_id", true, func(r *SecurityRule) *string { return &r.GroupID }),
			id("remote_group_id", false, func(r *SecurityRule) *string { return &r.RemoteGroup }),
			{Name: "remote_address_group_id", Get: func(*SecurityRule, *call) any { return nil }},
			{Name: "direction", In: attr.Post, Required: true, Check: direction,
				Get: func(r *SecurityRule, _ *call) any { return r.Direction }, Set: func(r *SecurityRule, x any) { r.Direction = x.(string) }},
			{Name: "ethertype", In: attr.Post, Check: attr.NoneAs(ipv4, etherType), Default: ipv4,
				Get: func(r *SecurityRule, _ *call) any { return r.EtherType }, Set: func(r *SecurityRule, x any) { r.EtherType = x.(string) }},
			{Name: "protocol", In: attr.Post, Check: attr.NoneAs("", protocol), Default: "",
				Get: func(r *SecurityRule, _ *call) any { return orNil(r.Protocol) }, Set: func(r *SecurityRule, x any) { r.Protocol = x.(string) }},
			number("port_range_min", func(r *SecurityRule) **int { return &r.PortMin }),
			number("port_range_max", func(r *SecurityRule) **int { return &r.PortMax }),
			{Name: "remote_ip_prefix", In: attr.Post, Check: attr.NoneAs(netip.Prefix{}, remotePrefix), Get: func(r *SecurityRule, _ *call) any {
				if !r.Remote.IsValid() {
					return nil
				}
				return r.Remote.String()
			}, Set: func(r *SecurityRule, x any) { r.Remote = x.(netip.Prefix) }},
			{Name: "normalized_cidr", Get: func(r *SecurityRule, _ *call) any {
				if !r.Remote.IsValid() {
					return nil
				}
				return r.Remote.Masked().String()
			}},
			{Name: "belongs_to_default_sg", Get: func(r *SecurityRule, c *call) any {
				g, err := get(c, c.groups, r.GroupID)
				return err == nil && g.Default
			}},
		}),
		target: func(c *call, r *SecurityRule, t policy.Target) {
			if g, err := get(c, c.groups, r.GroupID); err == nil {
				t["security_group:tenant_id"], t["security_group:project_id"] = g.ProjectID, g.ProjectID
				t["shared"] = truth(c.granted(g.ID, actShared))
			}
		},
		create: createRule, remove: removeRule,
	}
}

func removeRule(c *call, r *SecurityRule) error {
	return c.group.touch(c, r.GroupID)
}

func createRule(c *call, r *SecurityRule, _ attr.Values) error {
	g, err := c.group.find(c, r.GroupID)
	if err != nil {
		return err
	}
	if r.RemoteGroup != "" {
		if r.Remote.IsValid() {
			return errsBad("SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix, remote_group_id or remote_address_group_id may be provided.")
		}
		if _, err := c.group.find(c, r.RemoteGroup); err != nil {
			return err
		}
	}
	if err := checkRule(r); err != nil {
		return err
	}
	if r.EtherType == ipv6 && (r.Protocol == "icmp" || r.Protocol == "icmpv6") {
		r.Protocol = "ipv6-icmp"
	}
	for _, o := range by(c, c.rules, "group", g.ID) {
		if sameRule(o, r) {
			return conflict("SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", o.ID)
		}
	}
	return c.group.touch(c, g.ID)
}

// ensureDefault makes the caller's default group before groups are listed.
func (s *Service) ensureDefault(c *call) error {
	if c.tx == nil {
		return errs.New(errs.Internal, "a default group is made in a transaction")
	}
	if p := c.project(); p != "" {
		_, err := c.defaultGroup(p)
		return err
	}
	return nil
}

// groupRoutes are those of a resource, but looking at groups makes the default one.
func (s *Service) groupRoutes() []rest.Route {
	rows := s.group.routes()
	for i := range rows {
		if row := rows[i]; row.Method == http.MethodGet {
			rows[i].Handle = func(ctx context.Context, r *rest.Request) (*rest.Response, error) {
				if p := r.Creds.ProjectID; p != "" {
					if _, ok := s.groups.Unique("default", p); !ok {
						if err := s.do(ctx, r, s.ensureDefault); err != nil {
							return nil, err
						}
					}
				}
				return row.Handle(ctx, r)
			}
		}
	}
	return rows
}
