package compute

import (
	"fmt"
	"strings"
	"testing"
)

func TestFlavors(t *testing.T) {
	c := newClient(t)
	c.do("member", "POST", "/flavors", `{"flavor":{"name":"x","ram":1,"vcpus":1,"disk":1}}`).want(403)
	at := "/flavors/" + fmt.Sprint(c.do("admin", "POST", "/flavors", `{"flavor":{"name":"priv","id":884282851,"ram":"884282","vcpus":2,"disk":0,"os-flavor-access:is_public":false}}`).want(200).
		is("884282851", "flavor", "id").is(884282, "flavor", "ram").is("", "flavor", "swap").at("flavor", "id"))
	for name, body := range map[string]string{"no RAM": `{"flavor":{"name":"y","vcpus":1,"disk":1}}`, "zero RAM": `{"flavor":{"name":"y","ram":0,"vcpus":1,"disk":1}}`,
		"id with a dollar": `{"flavor":{"name":"y","id":"a$","ram":1,"vcpus":1,"disk":1}}`, "too big": `{"flavor":{"name":"y","ram":2147483648,"vcpus":1,"disk":1}}`, "description is newer": `{"flavor":{"name":"y","ram":1,"vcpus":1,"disk":1,"description":"d"}}`} {
		if a := c.do("admin", "POST", "/flavors", body); a.status != 400 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	c.do("admin", "POST", "/flavors", `{"flavor":{"name":"priv","ram":1,"vcpus":1,"disk":1}}`).want(409)
	c.do("admin", "POST", "/flavors", `{"flavor":{"name":"other","id":"42","ram":1,"vcpus":1,"disk":1}}`).want(409)
	c.do("member", "GET", at, "").want(404)
	c.do("member", "GET", "/flavors", "").want(200).count(5, "flavors")
	c.do("admin", "GET", "/flavors?is_public=None", "").want(200).count(6, "flavors")
	c.do("admin", "GET", "/flavors?is_public=false", "").want(200).count(1, "flavors")
	c.do("admin", "GET", "/flavors?is_public=perhaps", "").want(400)
	c.do("admin@2.75", "GET", "/flavors?banana=1", "").want(400)
	c.do("admin@2.74", "GET", "/flavors?banana=1", "").want(200)
	c.do("admin", "POST", at+"/action", `{"addTenantAccess":{"tenant":"nowhere"}}`).want(400)
	c.do("member", "GET", "/flavors/detail?minRam=2048", "").want(200).count(2, "flavors")
	c.do("member", "GET", "/flavors?minDisk=x", "").want(400)
	c.do("member@2.55", "GET", "/flavors?limit=2&marker=1", "").want(200).count(2, "flavors").count(1, "flavors_links")

	c.do("admin", "POST", at+"/action", `{"addTenantAccess":{"tenant":"`+project1+`"}}`).want(200).is(project1, "flavor_access", 0, "tenant_id")
	c.do("admin", "POST", at+"/action", `{"addTenantAccess":{"tenant":"`+project1+`"}}`).want(409)
	c.do("member", "GET", at, "").want(200)
	c.do("admin", "GET", at+"/os-flavor-access", "").want(200).count(1, "flavor_access")
	c.do("admin", "POST", at+"/action", `{"removeTenantAccess":{"tenant":"`+project1+`"}}`).want(200).count(0, "flavor_access")
	c.do("admin", "POST", at+"/action", `{"removeTenantAccess":{"tenant":"`+project1+`"}}`).want(404)
	c.do("admin@2.7", "POST", "/flavors/42/action", `{"addTenantAccess":{"tenant":"x"}}`).want(409)
	c.do("admin", "GET", "/flavors/42/os-flavor-access", "").want(404)

	specs := at + "/os-extra_specs"
	c.do("admin", "POST", specs, `{"extra_specs":{"hw:cpu_policy":"shared","mine":"1"}}`).want(200)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"hw:bogus":"1"}}`).want(400)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"hw:cpu_policy":"sharrd"}}`).want(400)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"my:own":"1"}}`).want(200)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"strata:clone":"perhaps"}}`).want(400)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"strata:clones":"true"}}`).want(400)
	c.do("admin@2.86", "POST", specs, `{"extra_specs":{"strata:clone":"true"}}`).want(200)
	c.do("admin", "DELETE", specs+"/strata:clone", "").want(200)
	c.do("admin", "PUT", specs+"/mine", `{"mine":"2"}`).want(200)
	c.do("admin", "PUT", specs+"/mine", `{"yours":"2"}`).want(400)
	c.do("admin", "GET", specs+"/mine", "").want(200).is("2", "mine")
	c.do("admin", "DELETE", specs+"/mine", "").want(200)
	c.do("admin", "GET", specs+"/mine", "").want(404)
	c.do("admin@2.61", "GET", at, "").want(200).is("shared", "flavor", "extra_specs", "hw:cpu_policy")
	c.do("admin@2.54", "PUT", at, `{"flavor":{"description":"d"}}`).want(404)
	c.do("admin@2.55", "PUT", at, `{"flavor":{"description":"d"}}`).want(200).is("d", "flavor", "description")
	c.do("admin", "DELETE", at, "").want(202)
	c.do("admin", "DELETE", at, "").want(404)
}

func TestKeypairs(t *testing.T) {
	c := newClient(t)
	made := c.do("member@2.2", "POST", "/os-keypairs", `{"keypair":{"name":"k 1"}}`).want(201).is("ssh", "keypair", "type").is("u1", "keypair", "user_id")
	if p := fmt.Sprint(made.at("keypair", "private_key")); !strings.HasPrefix(p, "-----BEGIN RSA PRIVATE KEY-----") {
		t.Errorf("private key %.40s", p)
	}
	public := strings.ReplaceAll(fmt.Sprint(made.at("keypair", "public_key")), "\n", "")
	a := c.do("member", "POST", "/os-keypairs", `{"keypair":{"name":"k2","public_key":"`+public+`"}}`).want(200).is(made.at("keypair", "fingerprint"), "keypair", "fingerprint")
	if a.at("keypair", "private_key") != nil || a.at("keypair", "type") != nil {
		t.Errorf("an import at 2.1 answers %v", a.body)
	}
	cert := c.do("member@2.2", "POST", "/os-keypairs", `{"keypair":{"name":"cert","type":"x509"}}`).want(201)
	c.do("member@2.2", "POST", "/os-keypairs", fmt.Sprintf(`{"keypair":{"name":"cert2","type":"x509","public_key":%q}}`, cert.at("keypair", "public_key"))).want(201).
		is(cert.at("keypair", "fingerprint"), "keypair", "fingerprint")
	for _, bad := range []string{`{"keypair":{}}`, `{"keypair":{"name":""}}`, `{"keypair":{"name":"a/b"}}`, `{"keypair":{"name":"a.b"}}`, `{"keypair":{"name":"x","public_key":"junk"}}`, `{"keypair":{"name":"x","type":"x509","public_key":"junk"}}`,
		`{"keypair":{"name":"x","type":"rsa"}}`, `{"keypair":{"name":"x","user_id":"u2"}}`} {
		c.do("member@2.2", "POST", "/os-keypairs", bad).want(400)
	}
	c.do("member@2.92", "POST", "/os-keypairs", `{"keypair":{"name":"a.b@c"}}`).want(400) // no public key
	c.do("member@2.92", "POST", "/os-keypairs", `{"keypair":{"name":"a.b@c","public_key":"`+public+`"}}`).want(201)
	c.do("member", "POST", "/os-keypairs", `{"keypair":{"name":"k2","public_key":"`+public+`"}}`).want(409)
	c.do("member@2.35", "GET", "/os-keypairs?limit=2", "").want(200).count(2, "keypairs").count(1, "keypairs_links")
	c.do("other", "GET", "/os-keypairs/k2", "").want(404)
	c.do("other@2.10", "GET", "/os-keypairs/k2?user_id=u1", "").want(403)
	c.do("admin@2.10", "GET", "/os-keypairs/k2?user_id=u1", "").want(200).is("u1", "keypair", "user_id")
	c.do("member", "DELETE", "/os-keypairs/k2", "").want(202)
	c.do("member", "DELETE", "/os-keypairs/k2", "").want(404)
	c.do("member@2.2", "DELETE", "/os-keypairs/k%201", "").want(204)
}
