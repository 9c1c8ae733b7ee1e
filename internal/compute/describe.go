package compute

import (
	"context"
	"encoding/base64"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// describe fills in what the node needs to know to run the server.
func (s *Service) describe(v *Server, i *nodeapi.Instance) error {
	i.Name, i.ProjectID, i.UserID = v.Name, v.ProjectID, v.UserID
	i.VCPUs, i.MemoryMiB, i.HA = v.Flavor.VCPUs, v.Flavor.RAM, v.ha()
	props := v.Image.Properties
	i.Machine = nodeapi.Machine{Type: props["hw_machine_type"], Firmware: props["hw_firmware_type"],
		KernelID: props["kernel_id"], RamdiskID: props["ramdisk_id"], CommandLine: props["os_command_line"], GuestAgent: v.hasAgent(), Clone: v.cloned()}
	i.Disks, i.Kept = v.disks(), nil
	for _, d := range v.keptDisks() {
		i.Kept = append(i.Kept, d.Name)
	}
	ports := s.portsOf(v)
	i.NICs = v.nics(ports)
	return s.describeGuest(v, i, ports)
}

// disks are the server's disks, in boot order.
func (v *Server) disks() []nodeapi.Disk {
	out := v.ownDisks(v.DiskSet)
	if v.Resize != nil && v.Resize.DiskSet != v.DiskSet {
		// They start as copies; what the new flavor adds starts empty.
		for i, old := range v.keptDisks() {
			if i < len(out) && out[i].Format != "iso" && out[i].Role == old.Role {
				out[i].CopyFrom = old.Name
			}
		}
	}
	out = v.withVolumes(out)
	if v.Rescue == nil {
		return out
	}
	d := nodeapi.Disk{Name: v.Rescue.Disk, Role: "root", SizeGiB: v.Rescue.Image.wholeGiB(), ImageID: v.Rescue.Image.ID, Format: v.Rescue.Image.Format, Bus: v.Rescue.Bus, Boot: 1}
	for i := range out {
		if out[i].Boot > 0 {
			out[i].Boot++
		}
	}
	if v.Rescue.Last {
		return append(out, d)
	}
	return append([]nodeapi.Disk{d}, out...)
}

// keptDisks are those that a resize can go back to.
func (v *Server) keptDisks() []nodeapi.Disk {
	if v.Resize == nil || v.Resize.Ending {
		return nil
	}
	before := *v
	before.Flavor = v.Resize.Flavor
	return before.ownDisks(v.Resize.DiskSet)
}

// wholeGiB is the size of a disk that holds the image.
func (i *Image) wholeGiB() int {
	return max(i.MinDisk, int((max(i.Virtual, i.Size)+1<<30-1)>>30))
}

func (v *Server) ownDisks(set int) []nodeapi.Disk {
	bus, from := v.Image.Properties["hw_disk_bus"], v.Image
	if v.Shelf != nil {
		from = *v.Shelf
	}
	size := v.Flavor.Disk
	if size == 0 { // a flavor without a disk gets one as large as the image
		size = from.wholeGiB()
	}
	var out []nodeapi.Disk
	switch {
	case v.volumeBacked():
	case from.Format == "iso":
		out = []nodeapi.Disk{{Role: "root", ImageID: from.ID, Format: "iso", ReadOnly: true, Boot: 1}, {Role: "ephemeral", SizeGiB: size, Bus: bus}}
	default:
		out = []nodeapi.Disk{{Role: "root", SizeGiB: size, ImageID: from.ID, Format: from.Format, Bus: bus, Boot: 1}}
	}
	out = append(out, v.localDisks(bus)...)
	for i := range out {
		out[i].Name = diskName(i, set)
	}
	return out
}

func (s *Service) describeGuest(v *Server, i *nodeapi.Instance, ports map[string]Port) error {
	user, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(v.UserData), ""))
	if err != nil {
		return errs.Invalidf("User data needs to be valid base 64.")
	}
	g := nodeapi.GuestConfig{ConfigDrive: v.ConfigDrive || v.Image.Properties["img_config_drive"] == "mandatory", Hostname: v.Hostname, AvailabilityZone: s.zoneOf(v),
		LaunchIndex: v.LaunchIndex, ReservationID: v.ReservationID, InstanceType: v.Flavor.Name, ImageID: v.Image.ID, AdminPass: v.AdminPass, Password: v.Password,
		UserData: user, Metadata: v.Metadata, SecurityGroups: v.GroupNames}
	if v.Key != nil {
		g.Keys = []nodeapi.Key{{Name: v.Key.Name, Type: v.Key.Type, PublicKey: v.Key.PublicKey}}
	}
	g.Network = s.describeNetwork(v, ports)
	i.Guest = g
	return nil
}

func (s *Service) portsOf(v *Server) map[string]Port {
	ports := map[string]Port{}
	for _, p := range s.Networks.Ports(v.ID) {
		ports[p.ID] = p
	}
	return ports
}

func (s *Service) describeNetwork(v *Server, ports map[string]Port) []nodeapi.NetworkInfo {
	var out []nodeapi.NetworkInfo
	for _, n := range v.NICs {
		p, ok := ports[n.PortID]
		if !ok {
			continue
		}
		info := nodeapi.NetworkInfo{PortID: p.ID, NetworkID: p.NetworkID, MAC: p.MAC, MTU: p.MTU, FixedIPs: p.FixedIPs, Subnets: p.Subnets}
		for _, f := range p.Floating {
			info.FloatingIP = f.String()
		}
		out = append(out, info)
	}
	return out
}

// refreshGuest tells the node what the guest may now learn of its metadata: the
// user's own, and its addresses.
func (s *Service) refreshGuest(ctx context.Context, id string) error {
	return s.DB.Txn(ctx, func(tx *store.Tx) error {
		inst, err := s.Nodes.Instances.TxGet(tx, id)
		if errs.Is(err, errs.NotFound) || err == nil && inst.Deleted {
			return nil // not spawned yet: spawn will tell; or going
		} else if err != nil {
			return err
		}
		v, err := s.servers.TxGet(tx, id)
		if err != nil {
			return err
		}
		ports := s.portsOf(v)
		if v, err = s.forgetPorts(tx, v, inst, ports); err != nil {
			return err
		}
		network := s.describeNetwork(v, ports)
		if maps.Equal(inst.Guest.Metadata, v.Metadata) && reflect.DeepEqual(inst.Guest.Network, network) && inst.HA == v.ha() {
			return nil
		}
		_, err = s.orderTx(tx, id, func(v *Server, i *nodeapi.Instance) error {
			i.Guest.Metadata, i.Guest.Network, i.HA = v.Metadata, network, v.ha()
			i.NICs = slices.DeleteFunc(i.NICs, func(n nodeapi.NIC) bool { _, ok := ports[n.PortID]; return !ok })
			return nil
		})
		return err
	})
}

// forgetPorts drops the interfaces whose ports were deleted, or given away, in the
// network service.
func (s *Service) forgetPorts(tx *store.Tx, v *Server, inst *nodeapi.Instance, ports map[string]Port) (*Server, error) {
	gone := map[string]bool{}
	for _, n := range inst.NICs {
		if _, ok := ports[n.PortID]; !ok {
			gone[n.PortID] = true
		}
	}
	if len(gone) == 0 {
		return v, nil
	}
	return s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
		v.NICs = slices.DeleteFunc(v.NICs, func(n NIC) bool { return gone[n.PortID] })
		return nil
	})
}
