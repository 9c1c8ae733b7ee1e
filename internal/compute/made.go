package compute

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Wanted is a server that another service of the region wants, by an id that it chose. Flavor,
// image and port are ids.
type Wanted struct {
	ID, Name, Hostname  string
	Flavor, Image, Port string
	Key                 string // the name of one of the caller's; "": none
	UserData            []byte
	Metadata            map[string]string
}

// MakeServer begins to make a server in the caller's project, with its quotas. One that there
// is already is left as it is.
func (s *Service) MakeServer(ctx context.Context, c *policy.Credentials, w Wanted) error {
	if _, err := s.servers.Get(w.ID); err == nil {
		return nil
	}
	var b createBody
	in := &b.Server
	in.ImageRef, in.FlavorRef = w.Image, w.Flavor
	networks, err := json.Marshal([]network{{Port: w.Port}})
	if err != nil {
		return err
	}
	now := wire.Now()
	v := &Server{ID: w.ID, Name: w.Name, Hostname: w.Hostname, ProjectID: c.ProjectID, UserID: c.UserID, VMState: Building, TaskState: Scheduling, Metadata: w.Metadata,
		DiskConfig: "MANUAL", ConfigDrive: true, UserData: base64.StdEncoding.EncodeToString(w.UserData), AdminPass: randomText(12), ReservationID: "r-" + randomText(8), Created: now, Updated: now}
	for _, step := range []func() error{
		func() error { return s.chooseDevices(ctx, c, v, &b) },
		func() error { return s.chooseFlavor(c, v, w.Flavor) },
		func() error { return s.chooseKey(c, v, w.Key) },
		func() error { return s.chooseGroups(ctx, v, &b) },
		func() error { return s.chooseNetworks(ctx, c, v, networks) },
		func() error { return s.limitMetadata(v) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return s.commit(ctx, "req-"+uuid.NewString(), c, []*Server{v}, 1)
}

// MadeServer tells whether there is a server that MakeServer made, and why it has failed, if
// it has.
func (s *Service) MadeServer(id string) (there bool, fault string) {
	v, err := s.servers.Get(id)
	if err != nil || v.DeletedAt != nil {
		return false, ""
	}
	if v.VMState == Errored {
		fault = "it is in error"
		if v.Fault != nil {
			fault = v.Fault.Message
		}
	}
	return true, fault
}

// IsOff tells whether a server does not run for certain, by what its node said last.
func (s *Service) IsOff(id string) bool {
	v, err := s.servers.Get(id)
	return err != nil || v.DeletedAt != nil || v.VMState == Stopped
}

// RemoveServer begins to delete a server, whoever has locked it. Absent is fine.
func (s *Service) RemoveServer(ctx context.Context, c *policy.Credentials, id string) error {
	err := s.remove(store.Freeing(ctx), "req-"+uuid.NewString(), c, id)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// ServerFlavor finds a flavor that the caller may use, by id or name, for a server from an
// image; "" is the smallest that has so much and can hold the image. NotFound.
func (s *Service) ServerFlavor(ctx context.Context, c *policy.Credentials, ref, image string, vcpus, memoryMiB int) (*flavor.Flavor, error) {
	img, err := s.Images.Image(ctx, c, image)
	if err != nil {
		return nil, err
	}
	if ref != "" {
		f, err := s.flavors.Get(ref)
		if err != nil {
			f, err = s.flavors.Named(ref)
		}
		if err != nil || !f.VisibleTo(c) || f.Disabled && !c.Admin() {
			return nil, errs.NotFoundf("Flavor %s could not be found.", ref)
		}
		if f.Disk == 0 {
			return nil, errs.Invalidf("Flavor %s has no disk.", ref)
		}
		return f, img.fits(f)
	}
	list := slices.DeleteFunc(s.flavors.All(), func(f *flavor.Flavor) bool {
		return !f.VisibleTo(c) || f.Disabled || f.VCPUs < vcpus || f.RAM < memoryMiB || f.Disk == 0 || img.fits(f) != nil
	})
	if len(list) == 0 {
		return nil, errs.NotFoundf("There is no flavor of %d VCPUs and %d MiB with a disk for image %s.", vcpus, memoryMiB, img.Name)
	}
	return slices.MinFunc(list, func(a, b *flavor.Flavor) int {
		return (a.RAM + a.VCPUs*1024 + a.Disk) - (b.RAM + b.VCPUs*1024 + b.Disk)
	}), nil
}
