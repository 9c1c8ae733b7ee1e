package compute

import (
	"maps"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func TestServerPassword(t *testing.T) {
	c := newClient(t)
	id := c.server("web", "")
	path := "/servers/" + id + "/os-server-password"
	told := func() string {
		inst, err := c.nodes.Instances.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		return inst.Guest.Password
	}
	c.do("member", "GET", path, "").want(200).is("", "password")
	if err := c.svc.TakePassword(t.Context(), id, "abc="); err != nil {
		t.Fatal(err)
	}
	if err := c.svc.TakePassword(t.Context(), id, "other"); !errs.Is(err, errs.Conflict) {
		t.Errorf("taken twice: %v", err)
	}
	c.do("reader", "GET", path, "").want(200).is("abc=", "password")
	if got := told(); got != "abc=" {
		t.Errorf("the guest is told %q", got)
	}
	c.act("member", id, `{"os-stop":null}`).want(202)
	if got := told(); got != "abc=" {
		t.Errorf("after a stop the guest is told %q", got)
	}
	c.do("other", "GET", path, "").want(404)
	c.do("other", "DELETE", path, "").want(404)
	c.do("reader", "DELETE", path, "").want(403)
	c.do("member", "DELETE", path, "").want(204)
	c.do("member", "DELETE", path, "").want(204)
	c.do("member", "GET", path, "").want(200).is("", "password")
	if got := told(); got != "" {
		t.Errorf("after a clear the guest is told %q", got)
	}
	if err := c.svc.TakePassword(t.Context(), id, "new"); err != nil {
		t.Errorf("after a clear: %v", err)
	}
	c.do("member", "DELETE", "/servers/"+id, "").want(204)
	c.settled()
	if v, err := c.svc.servers.Get(id); err != nil || v.Password != "" {
		t.Errorf("a deleted server keeps a password: %v", err)
	}
	c.clean(t)
}

// withAgent makes an image whose guests have QEMU's agent, and a server of it.
func (c *client) withAgent(more map[string]string) string {
	c.t.Helper()
	const id = "44444444-4444-4444-8444-444444444444"
	props := map[string]string{"hw_qemu_guest_agent": "yes"}
	maps.Copy(props, more)
	c.images.made[id] = &madeImage{NewImage: NewImage{ID: id, Properties: props}, active: true}
	a := c.do("member@2.96", "POST", "/servers", strings.Replace(createText("agent", ""), imageID, id, 1)).want(202)
	c.settled()
	server, _ := a.at("server", "id").(string)
	return server
}

func TestChangePassword(t *testing.T) {
	c := newClient(t)
	const change = `{"changePassword":{"adminPass":"n3w"}}`
	c.act("member", c.server("plain", ""), change).want(409).is("QEMU guest agent is not enabled", "conflictingRequest", "message")
	id := c.withAgent(nil)
	agent := c.agents["node-1"]
	for _, body := range []string{`{"changePassword":{}}`, `{"changePassword":{"adminPass":7}}`, `{"changePassword":{"adminPass":"x","y":1}}`} {
		c.act("member", id, body).want(400)
	}
	c.act("reader", id, change).want(403)
	c.act("other", id, change).want(404)
	c.act("member", id, change).want(202)
	if got := agent.Password(id); got != "n3w" {
		t.Errorf("the guest was told %q", got)
	}
	agent.Away(true)
	c.act("member", id, change).want(501)
	agent.Away(false)
	c.act("admin", id, `{"lock":null}`).want(202)
	c.act("member", id, change).want(409)
	c.act("admin", id, `{"unlock":null}`).want(202)
	c.act("member", id, `{"os-stop":null}`).want(202)
	c.act("member", id, change).want(409)
	refused := c.withAgent(map[string]string{"os_admin_user": "nobody"})
	c.act("member", refused, change).want(409)
	c.do("member", "GET", "/servers/"+refused, "").want(200).is("ACTIVE", "server", "status")
}

func TestAdminUser(t *testing.T) {
	for want, props := range map[string]map[string]string{"root": nil, "Administrator": {"os_type": "windows"}, "me": {"os_admin_user": "me", "os_type": "windows"}} {
		if got := (&Server{Image: Image{Properties: props}}).adminUser(); got != want {
			t.Errorf("%v: %s", props, got)
		}
	}
}
