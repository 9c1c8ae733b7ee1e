package compute

import (
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/wire"
)

func TestMigrateRefuses(t *testing.T) {
	c := newClient(t, "node-1", "node-2")
	id := c.server("web", "")
	v, err := c.svc.servers.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	other := "node-1"
	if v.Host == other {
		other = "node-2"
	}
	for name, tc := range map[string]struct {
		who, body string
		status    int
		says      string
	}{
		"member":        {"member@2.96", `{"migrate":null}`, 403, ""},
		"other project": {"other@2.96", `{"migrate":null}`, 403, ""},
		"same host":     {"admin@2.96", `{"migrate":{"host":"` + v.Host + `"}}`, 400, "where the server exists"},
		"no such host":  {"admin@2.56", `{"migrate":{"host":"mars"}}`, 400, "Compute host mars could not be found."},
		"host too long": {"admin@2.56", `{"migrate":{"host":"` + strings.Repeat("x", 256) + `"}}`, 400, ""},
		"not a name":    {"admin@2.56", `{"migrate":{"host":7}}`, 400, ""},
		"unknown field": {"admin@2.56", `{"migrate":{"to":"x"}}`, 400, ""},
	} {
		a := c.act(tc.who, id, tc.body).want(tc.status)
		for _, f := range a.body {
			if m, _ := f.(map[string]any)["message"].(string); !strings.Contains(m, tc.says) {
				t.Errorf("%s: %q", name, m)
			}
		}
	}
	if now, err := c.svc.servers.Get(id); err != nil || now.TaskState != "" || now.Gen != v.Gen || !now.Updated.Equal(v.Updated) {
		t.Errorf("the server was touched: %+v, %v", now, err)
	}
	c.do("admin", "PUT", "/os-services/disable", `{"host":"`+other+`","binary":"nova-compute"}`).want(200)
	a := c.act("admin", id, `{"migrate":null}`).want(400)
	a.is("No valid host was found. No valid host found for cold migrate", "badRequest", "message")
	c.act("member", id, `{"suspend":null}`).want(202)
	c.act("admin", id, `{"migrate":null}`).want(409)
	c.do("admin", "POST", "/servers/99999999-9999-4999-8999-999999999999/action", `{"migrate":null}`).want(404)
	c.clean(t)
}

func TestServerMigrations(t *testing.T) {
	c := newClient(t)
	id := c.server("web", "")
	at := "/servers/" + id + "/migrations"
	c.do("admin@2.22", "GET", at, "").want(404)
	c.do("member@2.23", "GET", at, "").want(403)
	c.do("admin@2.96", "GET", at, "").want(200).count(0, "migrations")
	c.act("member", id, `{"resize":{"flavorRef":"84"}}`).want(202)
	n := c.do("admin@2.23", "GET", "/os-migrations", "").want(200).at("migrations", 0, "id")
	c.do("admin@2.23", "GET", at, "").want(200).count(0, "migrations")
	number, ok := n.(float64)
	if !ok {
		t.Fatalf("the number of a migration is %v", n)
	}
	for path, says := range map[string]string{"1": "is not found for server", wire.Text(number): "is not live-migration"} {
		a := c.do("admin@2.23", "GET", at+"/"+path, "").want(404)
		if m, _ := a.at("itemNotFound", "message").(string); !strings.Contains(m, says) {
			t.Errorf("%s: %q", path, m)
		}
	}
	c.do("admin@2.23", "GET", "/servers/99999999-9999-4999-8999-999999999999/migrations", "").want(404)
}
