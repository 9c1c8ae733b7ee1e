package volume

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/volume/attach"
	"github.com/strata-cloud/strata/internal/volume/block"
	"github.com/strata-cloud/strata/internal/volume/wire"
)

// Named is a volume that a project makes by a name, for containers.
type Named struct {
	ID, Name, Type string
	SizeGiB        int
	Metadata       map[string]string
}

// Make accepts a new volume in the caller's project.
func (s *Service) Make(ctx context.Context, c *policy.Credentials, n Named) (*block.Volume, error) {
	return s.order(ctx, c, &order{ID: n.ID, Name: wire.Trim(&n.Name), Type: n.Type, SizeGiB: n.SizeGiB, Metadata: n.Metadata, requestID: "req-" + n.ID})
}

// Remove begins the removal of a volume of the caller's project, as a request does.
func (s *Service) Remove(ctx context.Context, c *policy.Credentials, id string) error {
	if _, err := s.FindVolume(c, id); err != nil {
		return err
	}
	return s.remove(ctx, "req-"+id, c, id, false, false)
}

// fileDriver is the driver whose volumes are exported to who mounts them.
const fileDriver = "local"

// Mount is a volume that containers of a host have mounted, by an attachment.
type Mount struct {
	ID, VolumeID, Host string
	ReadOnly           bool
}

// Mounted claims the volume for the host's containers, unless that is done, and says
// how the host reaches it. No other host does from then on.
func (s *Service) Mounted(ctx context.Context, m Mount) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	return s.mounted(ctx, m, map[string]any{"host": m.Host})
}

func (s *Service) mounted(ctx context.Context, m Mount, connector map[string]any) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	mode := "rw"
	if m.ReadOnly {
		mode = "ro"
	}
	v, err := s.Volumes.Get(m.VolumeID)
	if err != nil {
		return nil, nil, wire.NotFound("Volume", m.VolumeID)
	}
	if v.Driver != fileDriver {
		return nil, nil, errs.New(errs.NotImplemented, "volume %s is kept by the driver %s: containers mount those of the driver %s", v.ID, v.Driver, fileDriver)
	}
	if _, err := s.attach.Reserve(ctx, attach.Claim{ID: m.ID, VolumeID: m.VolumeID, Mode: mode, Container: true}); err != nil {
		return nil, nil, err
	}
	a, err := s.attach.Connect(ctx, m.ID, m.Host, "", "", connector)
	if err != nil {
		return nil, nil, err
	}
	if err := s.attach.Complete(ctx, m.ID); err != nil {
		return nil, nil, err
	}
	return s.attach.Source(ctx, a, m.Host)
}
