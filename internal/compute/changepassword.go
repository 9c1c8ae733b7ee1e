package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// changePassword sets the password of the guest's administrator, through QEMU's
// agent in the guest, while the caller waits: it is kept nowhere. The failures are
// those of nova/virt/libvirt/driver.py, set_admin_password.
func (s *Service) changePassword(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Change struct {
			Password string `json:"adminPass"`
		} `json:"changePassword"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	if err := v.allows("changePassword", []VMState{Active}, nil); err != nil {
		return nil, err
	}
	if !v.hasAgent() {
		return nil, errs.Conflictf("QEMU guest agent is not enabled")
	}
	conn, err := s.Nodes.Conn(v.Host)
	if err != nil {
		return nil, err
	}
	switch err := conn.SetPassword(ctx, v.ID, v.adminUser(), b.Change.Password); errs.KindOf(err) {
	case errs.Unavailable:
		return nil, errs.New(errs.NotImplemented, "Unable to set password on instance")
	default:
		if err != nil {
			s.Log.Warn("a guest's password is not set", "server", v.ID, "err", err)
			return nil, errs.Conflictf("Failed to set admin password on %s because error setting admin password", v.ID)
		}
	}
	return rest.Empty(202), nil
}

// hasAgent tells whether the server's image promises an agent in the guest.
func (v *Server) hasAgent() bool { return wire.Truthy(v.Image.Properties["hw_qemu_guest_agent"]) }

func (v *Server) adminUser() string {
	switch props := v.Image.Properties; {
	case props["os_admin_user"] != "":
		return props["os_admin_user"]
	case props["os_type"] == "windows":
		return "Administrator"
	}
	return "root"
}
