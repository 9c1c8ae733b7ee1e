package compute

import (
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
