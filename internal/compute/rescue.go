package compute

import (
	"context"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) rescueRoutes() []rest.Route {
	const at = "/servers/{id}/action"
	return []rest.Route{
		{Method: "POST", Path: at, Action: "rescue", Policy: "os_compute_api:os-rescue", Handle: s.rescue,
			Body: wire.Body("rescue", `{"anyOf":[{"type":"null"},{"type":"object","properties":{"adminPass":{"type":"string","maxLength":255},"rescue_image_ref":`+uuidSchema+`},"additionalProperties":false}]}`)},
		{Method: "POST", Path: at, Action: "unrescue", Policy: "os_compute_api:os-unrescue", Handle: s.unrescue},
	}
}

// rescue starts the server from another disk, with its own at hand.
func (s *Service) rescue(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Rescue *struct {
			AdminPass string `json:"adminPass"`
			Image     string `json:"rescue_image_ref"`
		} `json:"rescue"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	pass, image := "", v.Image.ID
	if b.Rescue != nil {
		pass = b.Rescue.AdminPass
		if b.Rescue.Image != "" {
			image = b.Rescue.Image
		}
	}
	if pass == "" {
		pass = randomText(12)
	}
	if v.volumeBacked() && (image == "" || !r.AtLeast(2, 87)) {
		return nil, errs.Invalidf("Instance %s cannot be rescued: Cannot rescue a volume-backed instance", v.ID)
	}
	from, err := s.rescueFrom(ctx, r, image)
	if err != nil {
		return nil, err
	}
	_, err = s.beginRemake(ctx, r, v.ID, "rescue", neverStopped, func(_ *store.Tx, v *Server) error {
		from.Disk = fmt.Sprintf("rescue-%d", v.Gen)
		v.Rescue, v.AdminPass = from, pass
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]string{"adminPass": pass}), nil
}

// rescueFrom reads how the image wants to be attached: by hw_rescue_bus or
// hw_rescue_device it comes after the server's own disks, from 2.87 on.
func (s *Service) rescueFrom(ctx context.Context, r *rest.Request, id string) (*Rescue, error) {
	img, err := s.Images.Image(ctx, r.Creds, id)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.Invalidf("Image %s could not be found.", id)
	} else if err != nil {
		return nil, err
	}
	if img.Status != "active" || img.Format == "iso" {
		return nil, errs.Invalidf("Requested rescue image '%s' is not valid", id)
	}
	device, bus := img.Properties["hw_rescue_device"], img.Properties["hw_rescue_bus"]
	if device != "" && device != "disk" || bus != "" && !slices.Contains([]string{"virtio", "scsi", "sata", "ide"}, bus) {
		return nil, errs.Invalidf("Requested rescue image '%s' is not valid", id)
	}
	if bus == "" {
		return &Rescue{Image: *img, Bus: img.Properties["hw_disk_bus"], Last: device != ""}, nil
	}
	return &Rescue{Image: *img, Bus: bus, Last: true}, nil
}

func (s *Service) unrescue(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	_, err = s.beginRemake(ctx, r, v.ID, "unrescue", neverStopped, func(_ *store.Tx, v *Server) error {
		v.Rescue, v.AdminPass = nil, ""
		return nil
	})
	return rest.Empty(202), err
}
