package system

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
)

// drained empties beta of a server that runs, one that is off and one that is paused.
func (f *failing) drained(t *testing.T) {
	f.toBeta()
	f.logIn(f.plainAddress)
	off := f.another("off")
	if err := servers.Stop(t.Context(), f.compute, off).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	f.awaitServer(t, off, "SHUTOFF")
	begin := time.Now()
	var list []struct {
		ID, Status, How, Node, Why string
		Seconds                    float64
	}
	if err := json.Unmarshal([]byte(f.strata(f.All[0], "node", "drain", "beta", "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	how := map[string]string{f.server: "live", f.plain: "live", off: "cold"}
	if len(list) != len(how) {
		t.Errorf("it moved %+v", list)
	}
	for _, x := range list {
		if x.How != how[x.ID] || x.Node == "beta" || x.Node == "" || x.Why != "" {
			t.Errorf("it says %+v", x)
		}
		t.Logf("%s: %s to %s in %.1f s", x.Status, x.How, x.Node, x.Seconds)
	}
	t.Logf("drained in %.1f s", took.Seconds())
	if left := f.machines(f.beta().DataDir); len(left) > 0 {
		t.Errorf("machines are left: %v", left)
	}
	f.logIn(f.address)
	f.logIn(f.plainAddress)
	f.awaitServer(t, off, "SHUTOFF")
	if _, err := f.try(f.All[0], "node", "drain", "beta"); err != nil {
		t.Errorf("draining an empty host: %v", err)
	}
	if _, err := f.try(f.All[0], "node", "drain", "mars"); err == nil || !strings.Contains(err.Error(), "there is no node mars") {
		t.Errorf("draining what is not there: %v", err)
	}
	refused := must[*servers.Server](t)(servers.Create(t.Context(), f.compute, servers.CreateOpts{Name: "no", ImageRef: f.stack.image, FlavorRef: "42", AvailabilityZone: "nova:beta",
		Networks: []servers.Network{{UUID: f.network}}}, nil).Extract()).ID
	f.awaitServer(t, refused, "ERROR")
	f.strata(f.All[0], "node", "undrain", "beta")
	for _, id := range []string{refused, off} {
		if err := servers.Delete(t.Context(), f.compute, id).ExtractErr(); err != nil {
			t.Fatal(err)
		}
		f.awaitGone(t, id)
	}
}
