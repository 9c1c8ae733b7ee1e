package compute

import (
	"testing"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// TestMadeVolumes has another service attach a volume to a server and end that, each more
// often than once.
func TestMadeVolumes(t *testing.T) {
	c := newClient(t)
	ctx, who := t.Context(), &policy.Credentials{ProjectID: project1, UserID: "member", Roles: []string{"member"}}
	id, other, vol, attachment := c.server("a", ""), c.server("b", ""), c.vols.add(project1), uuid.NewString()
	for range 2 {
		if err := c.svc.AttachMade(ctx, who, id, attachment, vol); err != nil {
			t.Fatal(err)
		}
		if on := c.onNode(id); len(on) != 1 || on[0] != vol || c.vols.status(vol) != "in-use" {
			t.Errorf("the node has %v, the volume is %s", on, c.vols.status(vol))
		}
	}
	if err := c.svc.AttachMade(ctx, who, other, uuid.NewString(), vol); !errs.Is(err, errs.Invalid) {
		t.Errorf("attaching it to another server: %v", err)
	}
	if err := c.svc.AttachMade(ctx, &policy.Credentials{ProjectID: "another"}, other, uuid.NewString(), vol); !errs.Is(err, errs.NotFound) {
		t.Errorf("attaching another project's: %v", err)
	}
	for range 2 {
		if err := c.svc.DetachMade(ctx, id, attachment); err != nil {
			t.Fatal(err)
		}
		if on := c.onNode(id); len(on) != 0 || c.vols.status(vol) != "available" {
			t.Errorf("after the end the node has %v, the volume is %s", on, c.vols.status(vol))
		}
	}
	if err := c.svc.DetachMade(ctx, uuid.NewString(), attachment); err != nil {
		t.Errorf("of a server that is gone: %v", err)
	}
}
