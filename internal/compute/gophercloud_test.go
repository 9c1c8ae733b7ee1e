package compute

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
)

// TestGophercloudPasswords plays a guest that posts its password as cloudbase-init
// does, and the owner who reads it.
func TestGophercloudPasswords(t *testing.T) {
	c := newClient(t)
	id, ctx := c.withAgent(nil), t.Context()
	as := func(token string) *gophercloud.ServiceClient {
		return &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: token}, Endpoint: c.url + "/compute/v2.1/", Type: "compute", Microversion: "2.79"}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := servers.GetPassword(ctx, as("member"), id).ExtractPassword(key); err != nil || p != "" {
		t.Errorf("before: %q, %v", p, err)
	}
	//lint:ignore SA1019 the padding is what guests and clients agree on
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte("made up"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.svc.TakePassword(ctx, id, base64.StdEncoding.EncodeToString(sealed)); err != nil {
		t.Fatal(err)
	}
	if p, err := servers.GetPassword(ctx, as("member"), id).ExtractPassword(key); err != nil || p != "made up" {
		t.Errorf("after: %q, %v", p, err)
	}
	if err := servers.ChangeAdminPassword(ctx, as("member"), id, "n3w").ExtractErr(); err != nil || c.agents["node-1"].Password(id) != "n3w" {
		t.Errorf("changed: %v", err)
	}
	if err := servers.Migrate(ctx, as("admin"), id).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
		t.Errorf("migrated: %v", err)
	}
	if err := servers.ForceDelete(ctx, as("member"), id).ExtractErr(); err != nil {
		t.Error(err)
	}
	c.settled()
	c.clean(t)
}
