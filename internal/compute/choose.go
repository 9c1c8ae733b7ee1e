package compute

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/flavor"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) chooseImage(ctx context.Context, c *policy.Credentials, v *Server, ref string) error {
	if i := strings.LastIndexByte(ref, '/'); i >= 0 {
		ref = ref[i+1:] // older clients send the image's whole address
	}
	if _, err := uuid.Parse(ref); err != nil {
		return errs.Invalidf("Invalid imageRef provided.")
	}
	img, err := s.Images.Image(ctx, c, ref)
	if errs.Is(err, errs.NotFound) {
		return errs.Invalidf("Can not find requested image")
	} else if err != nil {
		return err
	}
	if img.Status != "active" {
		return errs.Invalidf("Image %s is not active.", ref)
	}
	v.Image = *img
	return img.checkProperties()
}

func (s *Service) chooseFlavor(c *policy.Credentials, v *Server, ref string) error {
	if i := strings.LastIndexByte(ref, '/'); i >= 0 {
		ref = ref[i+1:]
	}
	f, err := s.flavors.Get(ref)
	if err != nil || !f.VisibleTo(c) {
		return errs.Invalidf("Flavor %s could not be found.", ref)
	}
	if f.Disabled && !c.Admin() {
		return errs.NotFoundf("Flavor %s could not be found.", ref)
	}
	if err := v.fits(f); err != nil {
		return err
	}
	v.Flavor = *f
	return nil
}

// fits checks that the flavor has room for what the server starts from: a root
// volume has its own size.
func (v *Server) fits(f *flavor.Flavor) error {
	if v.volumeBacked() {
		bare := *f
		bare.Disk = 0
		f = &bare
	}
	return v.Image.fits(f)
}

// fits checks that a server of the flavor can start from the image.
func (i *Image) fits(f *flavor.Flavor) error {
	if i.MinRAM > f.RAM {
		return errs.Invalidf("Flavor's memory is too small for requested image.")
	}
	if f.Disk > 0 {
		if i.MinDisk > f.Disk {
			return errs.Invalidf("The created instance's disk would be too small: flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is %d bytes, minimum size is %d bytes.", int64(f.Disk)<<30, int64(i.MinDisk)<<30)
		}
		if size := max(i.Size, i.Virtual); size > int64(f.Disk)<<30 {
			return errs.Invalidf("Flavor's disk is too small for requested image. Flavor disk is %d bytes, image is %d bytes.", int64(f.Disk)<<30, size)
		}
	}
	return nil
}

func (s *Service) chooseKey(c *policy.Credentials, v *Server, name string) error {
	if name == "" {
		return nil
	}
	k, err := s.keys.Get(c.UserID, name)
	if err != nil {
		return errs.Invalidf("Invalid key_name provided.")
	}
	v.Key = k
	return nil
}

// chooseZone reads ZONE[:HOST[:NODE]] and the host fields of 2.74; naming a host is
// for administrators (os_compute_api:servers:create:forced_host, requested_destination).
func (s *Service) chooseZone(r *rest.Request, v *Server, az, host, node string) error {
	rule := "compute:servers:create:requested_destination"
	if zone, forced, ok := strings.Cut(az, ":"); ok {
		az, rule = zone, "os_compute_api:servers:create:forced_host"
		forced, named, _ := strings.Cut(forced, ":")
		if host, node = forced, named; host == "" {
			host = node
		}
	}
	if host == "" {
		host = node
	}
	v.AZ, v.AskedHost = az, host
	if az != "" && !s.pool.HasZone(az) {
		return errs.Invalidf("The requested availability zone is not available")
	}
	if host == "" {
		return nil
	}
	if err := r.EnforceRule(rule, target(v)); err != nil {
		return err
	}
	if _, err := s.Nodes.Infos.Get(host); err != nil {
		return errs.Invalidf("Compute host %s could not be found.", host)
	}
	return nil
}

func (s *Service) chooseGroups(ctx context.Context, v *Server, b *createBody) (err error) {
	var wanted []string
	for _, g := range b.Server.Groups {
		wanted = append(wanted, g.Name)
	}
	if len(wanted) == 0 {
		wanted = []string{"default"}
	}
	v.Groups, v.GroupNames, err = s.Networks.Groups(ctx, v.ProjectID, unique(wanted))
	if errs.Is(err, errs.NotFound) {
		return errs.Invalidf("%s", err.Error())
	}
	return err
}

func (s *Service) chooseNetworks(ctx context.Context, c *policy.Credentials, v *Server, raw json.RawMessage) error {
	if string(raw) == `"none"` {
		return nil
	}
	var list []network
	auto := len(raw) == 0 || string(raw) == `"auto"` || string(raw) == "[]" || string(raw) == "null"
	if auto {
		ids, err := s.Networks.Available(ctx, c)
		if err != nil {
			return err
		}
		if len(ids) > 1 {
			return errs.Conflictf("Multiple possible networks found, use a Network ID to be more specific.")
		}
		if len(ids) == 0 && string(raw) == `"auto"` {
			return errs.Invalidf("Unable to automatically allocate a network for project %s", v.ProjectID)
		}
		for _, id := range ids {
			list = append(list, network{UUID: id})
		}
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return errs.Invalidf("Bad networks format")
	}
	return s.planNICs(ctx, c, v, list)
}

func (s *Service) planNICs(ctx context.Context, c *policy.Credentials, v *Server, list []network) error {
	seen, fresh := map[string]bool{}, 0
	for _, n := range list {
		nic := NIC{PortID: n.Port, NetworkID: n.UUID, FixedIP: n.FixedIP, Tag: n.Tag}
		if n.Port == "" {
			if n.UUID == "" {
				return errs.Invalidf("Bad networks format: network uuid is not in proper format ()")
			}
			if err := s.Networks.Usable(ctx, c, n.UUID); errs.Is(err, errs.NotFound) {
				return errs.Invalidf("Network %s could not be found.", n.UUID)
			} else if err != nil {
				return err
			}
			if n.FixedIP != "" {
				if holder, used := s.Networks.AddressHolder(c, n.UUID, n.FixedIP); used {
					return errs.Invalidf("Fixed IP address %s is already in use on instance %s.", n.FixedIP, holder)
				}
			}
			nic.PortID, nic.Ours = uuid.NewString(), true
			fresh++
		} else {
			p, err := s.Networks.Port(ctx, c, n.Port)
			if err != nil {
				return errs.Invalidf("Port id %s could not be found.", n.Port)
			}
			if p.DeviceID != "" || seen[n.Port] {
				return errs.Conflictf("Port %s is still in use.", n.Port)
			}
			if len(p.FixedIPs) == 0 && n.FixedIP != "" {
				return errs.Invalidf("Port %s requires a FixedIP in order to be used.", n.Port)
			}
			seen[n.Port], nic.NetworkID = true, p.NetworkID
		}
		v.NICs = append(v.NICs, nic)
	}
	if free := s.Networks.FreePorts(v.ProjectID); free >= 0 && fresh > free {
		return errs.Forbiddenf("Maximum number of ports exceeded")
	}
	return nil
}

// chooseHints reads the scheduler hints that mean something here; others are kept
// and do nothing, as with upstream's default filters.
func (s *Service) chooseHints(c *policy.Credentials, v *Server) error {
	id, ok := v.Hints["group"].(string)
	if !ok {
		return nil
	}
	g, err := s.groups.Find(c, id)
	if err != nil {
		return errs.Invalidf("%s", err.Error())
	}
	v.GroupID = g.ID
	return nil
}
