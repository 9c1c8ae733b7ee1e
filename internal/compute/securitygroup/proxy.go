package securitygroup

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// Security groups belong to the network service. Up to this microversion nova
// still showed them, in the form of its own former network service
// (nova/api/openstack/compute/security_groups.py).
var lastProxy = rest.V(2, 35)

const (
	groupBody = `{"type":"object","properties":{"name":{"type":"string","maxLength":255},"description":{"type":"string","maxLength":255}},"required":["name","description"]}`
	ruleBody  = `{"type":"object","properties":{"parent_group_id":{"type":["string","integer"]},"ip_protocol":{"type":["string","null"]},"from_port":{"type":["integer","string","null"]},` +
		`"to_port":{"type":["integer","string","null"]},"cidr":{"type":["string","null"]},"group_id":{"type":["string","null"]}},"required":["parent_group_id"]}`
)

// Routes are the proxy's rows of the compute API.
func (s *Proxy) Routes() []rest.Route {
	row := func(method, path, rule string, body []rest.Schema, h rest.Handler) rest.Route {
		return rest.Route{Method: method, Path: path, Policy: "os_compute_api:os-security-groups:" + rule, Max: lastProxy, Body: body, Handle: h}
	}
	group, rule := looseBody("security_group", groupBody), looseBody("security_group_rule", ruleBody)
	return []rest.Route{
		row("GET", "/os-security-groups", "get", nil, s.list),
		row("POST", "/os-security-groups", "create", group, s.create),
		row("GET", "/os-security-groups/{group}", "show", nil, s.show),
		row("PUT", "/os-security-groups/{group}", "update", group, s.update),
		row("DELETE", "/os-security-groups/{group}", "delete", nil, s.remove),
		row("POST", "/os-security-group-rules", "rule:create", rule, s.createRule),
		row("DELETE", "/os-security-group-rules/{rule}", "rule:delete", nil, s.deleteRule),
		{Method: "GET", Path: "/servers/{id}/os-security-groups", Policy: "os_compute_api:os-security-groups:list", Handle: s.listOfServer},
	}
}

// looseBody is wire.Body for requests that upstream checks without a schema: it
// ignores what it does not know.
func looseBody(key, value string) []rest.Schema {
	return []rest.Schema{rest.SchemaOf(`{"type":"object","properties":{"` + key + `":` + value + `},"required":["` + key + `"]}`)}
}

// groupID is a path's or body's id of a group or rule.
func groupID(id string) (string, error) {
	if _, err := uuid.Parse(id); err != nil {
		return "", errs.Invalidf("Security group id should be uuid")
	}
	return id, nil
}

// refusedAs gives a conflict in the network service the kind that nova turns it into.
func refusedAs(kind errs.Kind, err error) error {
	if errs.Is(err, errs.Conflict) || errs.Is(err, errs.QuotaExceeded) {
		return errs.New(kind, "%w", err)
	}
	return err
}

func (s *Proxy) list(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	all := r.Query().Has("all_tenants") && r.Creds.Admin()
	list, err := s.Groups.List(ctx, r, all)
	if err != nil {
		return nil, err
	}
	if list, err = wire.Window(r, list); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"security_groups": views(list)}), nil
}

func (s *Proxy) groupIn(ctx context.Context, r *rest.Request) (*Group, error) {
	id, err := groupID(r.Path("group"))
	if err != nil {
		return nil, err
	}
	return s.Groups.Get(ctx, r, id)
}

func (s *Proxy) show(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupIn(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"security_group": view(*g)}), nil
}

type groupRequest struct {
	Group struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"security_group"`
}

func (s *Proxy) create(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b groupRequest
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	g, err := s.Groups.Create(ctx, r, b.Group.Name, b.Group.Description)
	if err != nil {
		return nil, refusedAs(errs.Forbidden, err)
	}
	return rest.JSON(200, map[string]any{"security_group": view(*g)}), nil
}

func (s *Proxy) update(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupIn(ctx, r)
	if err != nil {
		return nil, err
	}
	var b groupRequest
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if g, err = s.Groups.Update(ctx, r, g.ID, b.Group.Name, b.Group.Description); err != nil {
		return nil, refusedAs(errs.Invalid, err)
	}
	return rest.JSON(200, map[string]any{"security_group": view(*g)}), nil
}

func (s *Proxy) remove(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	g, err := s.groupIn(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.Groups.Delete(ctx, r, g.ID); err != nil {
		return nil, refusedAs(errs.Invalid, err)
	}
	return rest.Empty(202), nil
}

type ruleRequest struct {
	Rule struct {
		Parent   any     `json:"parent_group_id"`
		Protocol *string `json:"ip_protocol"`
		From     any     `json:"from_port"`
		To       any     `json:"to_port"`
		CIDR     *string `json:"cidr"`
		Remote   *string `json:"group_id"`
	} `json:"security_group_rule"`
}

func (s *Proxy) createRule(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	var b ruleRequest
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	id, err := groupID(wire.Text(b.Rule.Parent))
	if err != nil {
		return nil, err
	}
	g, err := s.Groups.Get(ctx, r, id)
	if err != nil {
		return nil, err
	}
	n, err := b.read()
	if err != nil {
		return nil, err
	}
	n.Group = g.ID
	if n.RemoteGroup != "" {
		if _, err := s.Groups.Get(ctx, r, n.RemoteGroup); err != nil {
			return nil, err
		}
	}
	rule, err := s.Groups.AddRule(ctx, r, *n)
	switch {
	case errs.CodeOf(err) == "SecurityGroupRuleExists":
		return nil, errs.Invalidf("This rule already exists in group %s", g.ID)
	case err != nil:
		return nil, refusedAs(errs.Forbidden, err)
	}
	return rest.JSON(200, map[string]any{"security_group_rule": ruleView(g.ID, *rule)}), nil
}

// read checks a rule as nova does before it asks the network service
// (nova/network/security_group_api.py, _new_ingress_rule).
func (b *ruleRequest) read() (*NewRule, error) {
	n := &NewRule{}
	if p := b.Rule.Protocol; p != nil {
		n.Protocol = strings.ToLower(*p)
	}
	from, to := b.Rule.From, b.Rule.To
	if b.Rule.Remote != nil {
		id, err := groupID(*b.Rule.Remote)
		if err != nil {
			return nil, err
		}
		n.RemoteGroup = id
		from, to = anyPort(n.Protocol, from, to)
	} else {
		cidr, err := ruleCIDR(b.Rule.CIDR)
		if err != nil {
			return nil, err
		}
		n.CIDR = cidr
	}
	if n.Protocol == "" || from == nil || to == nil {
		if n.RemoteGroup == "" {
			return nil, errs.Invalidf("Not enough parameters to build a valid rule.")
		}
		n.Protocol = "" // upstream lets the whole remote group in
		return n, nil
	}
	return n, n.ports(from, to)
}

// anyPort opens all ports of a protocol to a remote group when none is named.
func anyPort(protocol string, from, to any) (any, any) {
	if from != nil || to != nil {
		return from, to
	}
	switch protocol {
	case "icmp":
		return float64(-1), float64(-1)
	case "tcp", "udp":
		return float64(1), float64(65535)
	}
	return from, to
}

func ruleCIDR(given *string) (string, error) {
	if given == nil || *given == "" {
		return "0.0.0.0/0", nil
	}
	p, err := netip.ParsePrefix(*given)
	if err != nil {
		return "", errs.Invalidf("%s is not a valid IP network.", *given)
	}
	if p.Bits() == 0 && !p.Addr().IsUnspecified() {
		return "", errs.Invalidf("Bad prefix for network in cidr %s", *given)
	}
	return *given, nil
}

// ports reads both ends of the range, for ICMP its type and code, -1 for any.
func (n *NewRule) ports(from, to any) error {
	a, err1 := strconv.Atoi(wire.Text(from))
	b, err2 := strconv.Atoi(wire.Text(to))
	icmp := n.Protocol == "icmp"
	switch {
	case cmp.Or(err1, err2) != nil && icmp:
		return errs.Invalidf("Invalid input received: Type and Code must be integers for ICMP protocol type")
	case cmp.Or(err1, err2) != nil:
		return errs.Invalidf("Invalid input received: To and From ports must be integers")
	case !icmp && n.Protocol != "tcp" && n.Protocol != "udp":
		return errs.Invalidf("Invalid IP protocol %s.", n.Protocol)
	case !icmp && a > b:
		return errs.Invalidf("Invalid port range %d:%d. Former value cannot be greater than the later", a, b)
	case !icmp && (a < 1 || b > 65535):
		return errs.Invalidf("Invalid port range %d:%d. Valid %s ports should be between 1-65535", a, b, strings.ToUpper(n.Protocol))
	case icmp && (min(a, b) < -1 || max(a, b) > 255):
		return errs.Invalidf("Invalid port range %d:%d. For ICMP, the type:code must be valid", a, b)
	}
	if a != -1 {
		n.FromPort = &a
	}
	if b != -1 {
		n.ToPort = &b
	}
	return nil
}

func (s *Proxy) deleteRule(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	id, err := groupID(r.Path("rule"))
	if err != nil {
		return nil, err
	}
	if err := s.Groups.DropRule(ctx, r, id); err != nil {
		return nil, err
	}
	return rest.Empty(202), nil
}

// listOfServer gives the security groups of the server's ports, by project and name.
func (s *Proxy) listOfServer(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	ids, err := s.OfServer(r)
	if err != nil {
		return nil, err
	}
	list, err := s.Groups.Describe(ctx, ids)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.ProjectID, b.ProjectID), cmp.Compare(a.Name, b.Name))
	})
	return rest.JSON(200, map[string]any{"security_groups": views(list)}), nil
}

func views(list []Group) []any {
	views := make([]any, len(list))
	for i, g := range list {
		views[i] = view(g)
	}
	return views
}

func view(g Group) map[string]any {
	rules := []any{}
	for _, x := range g.Rules {
		rules = append(rules, ruleView(g.ID, x))
	}
	return map[string]any{"id": g.ID, "name": g.Name, "description": g.Description, "tenant_id": g.ProjectID, "rules": rules}
}

// ruleView writes "any" as nova-network did: all ports as a range, all
// ICMP as -1, everywhere as 0.0.0.0/0.
func ruleView(group string, x Rule) map[string]any {
	v := map[string]any{"id": x.ID, "parent_group_id": group, "ip_protocol": wire.OrNull(x.Protocol), "from_port": x.FromPort, "to_port": x.ToPort,
		"group": map[string]any{}, "ip_range": map[string]any{}}
	if x.Protocol != "" && x.FromPort == nil && x.ToPort == nil {
		v["from_port"], v["to_port"] = -1, -1
		if p := strings.ToLower(x.Protocol); p == "tcp" || p == "udp" {
			v["from_port"], v["to_port"] = 1, 65535
		}
	}
	if x.RemoteGroupOwner != "" {
		v["group"] = map[string]any{"name": x.RemoteGroup, "tenant_id": x.RemoteGroupOwner}
	} else {
		v["ip_range"] = map[string]any{"cidr": cmp.Or(x.CIDR, "0.0.0.0/0")}
	}
	return v
}
