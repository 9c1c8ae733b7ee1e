package network

import (
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

// TestServerGroups holds what compute is shown of a group to the network API's own view.
func TestServerGroups(t *testing.T) {
	w := start(t)
	web := w.make("alice", "security_group", "/security-groups", `"name":"web"`)["id"].(string)
	w.make("alice", "security_group_rule", "/security-group-rules", `"security_group_id":"%s","direction":"ingress","protocol":"tcp","port_range_min":22,"port_range_max":22,"remote_ip_prefix":"10.0.0.1/8"`, web)
	w.make("alice", "security_group_rule", "/security-group-rules", `"security_group_id":"%s","direction":"ingress","remote_group_id":"%s"`, web, web)
	list, err := w.s.Describe(t.Context(), []string{web, absent})
	if err != nil || len(list) != 1 || len(list[0].Rules) != 2 {
		t.Fatalf("%v %v", list, err)
	}
	seen := map[string]bool{}
	for _, r := range list[0].Rules { // egress rules are not shown
		seen[r.Protocol+r.CIDR+r.RemoteGroup] = true
	}
	if !seen["tcp10.0.0.1/8"] || !seen["web"] {
		t.Errorf("the rules are %v", seen)
	}
	if err := w.s.DeleteGroup(t.Context(), nil, web); err != nil {
		t.Error(err)
	}
	if _, err := w.s.GetGroup(t.Context(), nil, web); !errs.Is(err, errs.NotFound) {
		t.Errorf("a deleted group: %v", err)
	}
}
