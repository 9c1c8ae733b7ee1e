package system

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

// TestForeign uses what belongs to another project: to a stranger it does not exist.
func TestForeign(t *testing.T) {
	w := newWorld(t)
	w.ids["SERVER"] = w.boot(t, on(`"none"`))
	w.user.awaitServer(t, w.ids["SERVER"], "ACTIVE")
	table := []bad{
		{"show server", "compute", "GET", "servers/$SERVER", "", 404, "$SERVER"},
		{"delete server", "compute", "DELETE", "servers/$SERVER", "", 404, "$SERVER"},
		{"rename server", "compute", "PUT", "servers/$SERVER", `{"server":{"name":"mine"}}`, 404, "$SERVER"},
		{"reboot server", "compute", "POST", "servers/$SERVER/action", `{"reboot":{"type":"HARD"}}`, 404, "$SERVER"},
		{"read console", "compute", "POST", "servers/$SERVER/action", `{"os-getConsoleOutput":{}}`, 404, "$SERVER"},
		{"show key", "compute", "GET", "os-keypairs/own", "", 404, "own"},
		{"delete key", "compute", "DELETE", "os-keypairs/own", "", 404, "own"},
		{"boot image", "compute", "POST", "servers", `{"server":{"name":"s","imageRef":"$IMAGE","flavorRef":"42","networks":"none"}}`, 400, "Can not find requested image"},
		{"show image", "image", "GET", "images/$IMAGE", "", 404, "$IMAGE"},
		{"download image", "image", "GET", "images/$IMAGE/file", "", 404, "$IMAGE"},
		{"delete image", "image", "DELETE", "images/$IMAGE", "", 404, "$IMAGE"},
		{"show network", "network", "GET", "networks/$NETWORK", "", 404, "NetworkNotFound"},
		{"delete network", "network", "DELETE", "networks/$NETWORK", "", 404, "NetworkNotFound"},
		{"port on network", "network", "POST", "ports", `{"port":{"network_id":"$NETWORK"}}`, 404, "NetworkNotFound"},
		{"subnet on network", "network", "POST", "subnets", `{"subnet":{"network_id":"$NETWORK","ip_version":4,"cidr":"10.67.0.0/24"}}`, 404, "NetworkNotFound"},
		{"show subnet", "network", "GET", "subnets/$SUBNET", "", 404, "SubnetNotFound"},
		{"show port", "network", "GET", "ports/$PORT", "", 404, "PortNotFound"},
		{"delete port", "network", "DELETE", "ports/$PORT", "", 404, "PortNotFound"},
		{"show router", "network", "GET", "routers/$ROUTER", "", 404, "RouterNotFound"},
		{"plug router", "network", "PUT", "routers/$ROUTER/remove_router_interface", `{"subnet_id":"$SUBNET"}`, 404, "RouterNotFound"},
		{"show group", "network", "GET", "security-groups/$GROUP", "", 404, "SecurityGroupNotFound"},
		{"rule in group", "network", "POST", "security-group-rules", `{"security_group_rule":{"security_group_id":"$GROUP","direction":"ingress"}}`, 404, "SecurityGroupNotFound"},
		{"show floating IP", "network", "GET", "floatingips/$FIP", "", 404, "FloatingIPNotFound"},
		{"take floating IP", "network", "PUT", "floatingips/$FIP", `{"floatingip":{"port_id":null}}`, 404, "FloatingIPNotFound"},
		{"floating IP to port", "network", "POST", "floatingips", `{"floatingip":{"floating_network_id":"$PUBLIC","port_id":"$PORT"}}`, 404, "PortNotFound"},
	}
	w.refused(t, w.stranger, table)
	// With an image that both may use, the other parts are still the user's own.
	if a := ask(t, w.admin.image, "POST", "images", `{"name":"common","disk_format":"raw","container_format":"bare","visibility":"public"}`); a.status != 201 {
		t.Fatalf("making a public image: %d %s", a.status, a.body)
	} else {
		var v struct{ ID string }
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Fatal(err)
		}
		if err := uploadData(t.Context(), w.admin.image, v.ID, strings.NewReader("nothing")); err != nil {
			t.Fatal(err)
		}
		w.ids["COMMON"] = v.ID
	}
	with := func(more string) string {
		return `{"server":{"name":"s","imageRef":"$COMMON","flavorRef":"42",` + more + `}}`
	}
	w.refused(t, w.stranger, []bad{
		{"boot on network", "compute", "POST", "servers", with(`"networks":[{"uuid":"$NETWORK"}]`), 400, "could not be found"},
		{"boot on port", "compute", "POST", "servers", with(`"networks":[{"port":"$PORT"}]`), 400, "could not be found"},
		{"boot with key", "compute", "POST", "servers", with(`"networks":"none","key_name":"own"`), 400, "Invalid key_name"},
		{"boot with group", "compute", "POST", "servers", with(`"networks":"none","security_groups":[{"name":"$GROUP"}]`), 400, "Security group"},
	})
}

// boot begins a server of the user.
func (w *world) boot(t *testing.T, body string) string {
	t.Helper()
	a := ask(t, w.user.compute, "POST", "servers", w.fill(body))
	var v struct{ Server struct{ ID string } }
	if err := json.Unmarshal(a.body, &v); err != nil || a.status != 202 {
		t.Fatalf("booting: %d %s", a.status, a.body)
	}
	return v.Server.ID
}

// remove deletes servers of the user and waits until they are gone.
func (w *world) remove(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if a := ask(t, w.user.compute, "DELETE", "servers/"+id, ""); a.status != 204 {
			t.Errorf("deleting %s: %d %s", id, a.status, a.body)
		}
	}
	for _, id := range ids {
		w.user.awaitGone(t, id)
	}
}

// limit sets limits of the user's project.
func (w *world) limit(t *testing.T, service, limits string) {
	t.Helper()
	path, body := "os-quota-sets/"+w.project, `{"quota_set":{`+limits+`}}`
	if service == "network" {
		path, body = "quotas/"+w.project, `{"quota":{`+limits+`}}`
	}
	if a := ask(t, w.client(w.admin, service), "PUT", path, body); a.status != 200 {
		t.Fatalf("limiting %s: %d %s", limits, a.status, a.body)
	}
}

// TestQuota asks for one more than a project may have, of each kind.
func TestQuota(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct{ service, limits, path, body, want string }{
		{"compute", `"instances":0`, "servers", server(""), "Quota exceeded for instances: Requested 1, but already used 0 of 0 instances"},
		{"compute", `"instances":10,"cores":0`, "servers", server(""), "Quota exceeded for cores: Requested 1, but already used 0 of 0 cores"},
		{"compute", `"cores":10,"ram":64`, "servers", server(""), "Quota exceeded for ram: Requested 128, but already used 0 of 64 ram"},
		{"compute", `"ram":51200,"key_pairs":1`, "os-keypairs", `{"keypair":{"name":"second"}}`, "Quota exceeded"},
		{"compute", `"metadata_items":1`, "servers", server(`,"metadata":{"a":"1","b":"2"}`), "Maximum number of metadata items exceeds 1"},
		{"network", `"network":1`, "networks", `{"network":{}}`, "OverQuota Quota exceeded for resources: ['network']."},
		{"network", `"subnet":1`, "subnets", `{"subnet":{"network_id":"$NETWORK","ip_version":4,"cidr":"10.68.0.0/24"}}`, "OverQuota Quota exceeded for resources: ['subnet']."},
		{"network", `"port":1`, "ports", `{"port":{"network_id":"$NETWORK"}}`, "OverQuota Quota exceeded for resources: ['port']."},
		{"network", `"router":1`, "routers", `{"router":{}}`, "OverQuota Quota exceeded for resources: ['router']."},
		{"network", `"floatingip":1`, "floatingips", `{"floatingip":{"floating_network_id":"$PUBLIC"}}`, "OverQuota Quota exceeded for resources: ['floatingip']."},
		{"network", `"security_group":2`, "security-groups", `{"security_group":{"name":"more"}}`, "OverQuota Quota exceeded for resources: ['security_group']."},
		{"network", `"security_group_rule":0`, "security-group-rules", `{"security_group_rule":{"security_group_id":"$GROUP","direction":"ingress"}}`, "OverQuota Quota exceeded for resources: ['security_group_rule']."},
	} {
		w.limit(t, x.service, x.limits)
		status := map[string]int{"compute": 403, "network": 409}[x.service]
		w.refused(t, w.user, []bad{{x.limits, x.service, "POST", x.path, x.body, status, x.want}})
	}
	// Compute asks network for the port that a server needs.
	w.refused(t, w.user, []bad{{"port of a server", "compute", "POST", "servers", server(""), 403, "Maximum number of ports exceeded"}})
}

// TestQuotaRace has twenty clients ask at once for servers, of which three are allowed.
func TestQuotaRace(t *testing.T) {
	const allowed, asking = 3, 20
	w := newWorld(t)
	w.limit(t, "compute", fmt.Sprintf(`"instances":%d`, allowed))
	w.unchanged(t, func() {
		var group sync.WaitGroup
		answers := make([]answer, asking)
		for i := range answers {
			group.Go(func() { answers[i] = ask(t, w.user.compute, "POST", "servers", w.fill(server(""))) })
		}
		group.Wait()
		var ids []string
		for _, a := range answers {
			var v struct{ Server struct{ ID string } }
			switch {
			case a.status == 202 && json.Unmarshal(a.body, &v) == nil:
				ids = append(ids, v.Server.ID)
			case a.status != 403 || !strings.Contains(a.said(t, "compute"), "Quota exceeded for instances"):
				t.Errorf("one was answered %d %s", a.status, a.body)
			}
		}
		if len(ids) != allowed {
			t.Errorf("%d servers were begun, the quota allows %d", len(ids), allowed)
		}
		w.remove(t, ids...) // they are still being built
	})
}

// await waits for a condition on the cloud.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := wait.Until(ctx, what, 50*time.Millisecond, func(context.Context) (bool, error) { return cond(), nil }); err != nil {
		t.Fatal(err)
	}
}
