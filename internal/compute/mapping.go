package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
)

// blockDevice is an entry of block_device_mapping_v2 (nova/block_device.py).
type blockDevice struct {
	BootIndex   any    `json:"boot_index"`
	UUID        string `json:"uuid"`
	Source      string `json:"source_type"`
	Destination string `json:"destination_type"`
	Format      string `json:"guest_format"`
	Size        any    `json:"volume_size"`
	Kind        string `json:"device_type"`
	Bus         string `json:"disk_bus"`
	DeviceName  string `json:"device_name"`
	DeleteToo   any    `json:"delete_on_termination"`
	NoDevice    any    `json:"no_device"`
	Tag         string `json:"tag"`
	VolumeType  string `json:"volume_type"`

	// As an image's own mapping names them.
	ImageID    string `json:"image_id"`
	VolumeID   string `json:"volume_id"`
	SnapshotID string `json:"snapshot_id"`
}

// legacyDevice is an entry of block_device_mapping, the first form.
type legacyDevice struct {
	Virtual    string `json:"virtual_name"`
	VolumeID   string `json:"volume_id"`
	SnapshotID string `json:"snapshot_id"`
	Size       any    `json:"volume_size"`
	DeviceName string `json:"device_name"`
	DeleteToo  any    `json:"delete_on_termination"`
	NoDevice   any    `json:"no_device"`
}

const legacyItem = `{"type":"object","properties":{"virtual_name":{"type":"string","maxLength":255},"volume_id":` + uuidSchema + `,"snapshot_id":` + uuidSchema + `,"volume_size":{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":1,"minLength":1},
 "device_name":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9._/-]*$"},"delete_on_termination":` + wire.Bool + `,"no_device":{},"connection_info":{"type":"string","maxLength":16777215}},"additionalProperties":false}`

// deviceSchema is an entry of block_device_mapping_v2 in a version.
func deviceSchema(at rest.Version) string {
	more := ""
	if at == rest.V(2, 32) || at.AtLeast(rest.V(2, 42)) { // as with the tags of networks
		more = `,"tag":` + tagSchema
	}
	if at.AtLeast(rest.V(2, 67)) {
		more += `,"volume_type":{"type":["string","null"],"minLength":0,"maxLength":255}`
	}
	return `{"type":"object","properties":{"boot_index":{"type":["integer","string","null"],"pattern":"^-?[0-9]+$"},"uuid":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9._-]*$"},"source_type":{"enum":["volume","image","snapshot","blank"]},
 "destination_type":{"enum":["local","volume"]},"guest_format":{"type":"string","maxLength":255},"volume_size":{"type":["integer","string"],"pattern":"^[0-9]+$","minimum":1,"minLength":1},"device_type":{"type":"string","maxLength":255},"disk_bus":{"type":"string","maxLength":255},
 "device_name":{"type":"string","minLength":1,"maxLength":255,"pattern":"^[a-zA-Z0-9._/-]*$"},"delete_on_termination":` + wire.Bool + `,"no_device":{}` + more + `},"additionalProperties":false}`
}

func invalidMapping(format string, args ...any) error {
	return errs.Invalidf("Block Device Mapping is Invalid: %s", fmt.Sprintf(format, args...))
}

// upgraded gives the older form's entries in the newer one. Without an image the
// entry for the root's name, or else the first, is what the server boots from.
func upgraded(list []legacyDevice, image bool) []blockDevice {
	var out []blockDevice
	root := -1
	for _, d := range list {
		n := blockDevice{Source: "volume", Destination: "volume", UUID: d.VolumeID, Size: d.Size, DeleteToo: d.DeleteToo, NoDevice: d.NoDevice, BootIndex: "-1", DeviceName: d.DeviceName}
		switch {
		case d.SnapshotID != "":
			n.Source, n.UUID = "snapshot", d.SnapshotID
		case strings.HasPrefix(d.Virtual, "ephemeral"):
			n.Source, n.Destination = "blank", "local"
		case d.Virtual == "swap":
			n.Source, n.Destination, n.Format = "blank", "local", "swap"
		}
		if n.Source != "blank" && n.NoDevice == nil && (root < 0 || bareName(d.DeviceName) == "vda") {
			root = len(out)
		}
		out = append(out, n)
	}
	if !image && root >= 0 {
		out[root].BootIndex = "0"
	}
	return out
}

// mapping reads the mapping that an image of a volume-backed server carries.
func (i *Image) mapping() ([]blockDevice, error) {
	text := i.Properties["block_device_mapping"]
	if text == "" {
		return nil, nil
	}
	var list []blockDevice
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, invalidMapping("the mapping of image %s cannot be read.", i.ID)
	}
	for n := range list {
		d := &list[n]
		switch d.Source {
		case "image":
			d.UUID = d.ImageID
		case "volume":
			d.UUID = d.VolumeID
		case "snapshot":
			d.UUID = d.SnapshotID
		}
	}
	return list, nil
}

// chooseDevices reads the image and the block devices that a create names.
func (s *Service) chooseDevices(ctx context.Context, c *policy.Credentials, v *Server, b *createBody) error {
	in := &b.Server
	list := in.Devices
	if len(in.Legacy) > 0 {
		if len(list) > 0 {
			return errs.Invalidf("Using different block_device_mapping syntaxes is not allowed in the same request.")
		}
		list = upgraded(in.Legacy, in.ImageRef != "")
	}
	if in.ImageRef != "" {
		if err := s.chooseImage(ctx, c, v, in.ImageRef); err != nil {
			return err
		}
		own, err := v.Image.mapping()
		if err != nil {
			return err
		}
		list = append(own, list...)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(d blockDevice) bool { return d.NoDevice != nil && d.NoDevice != false })
	boots := map[int]bool{}
	for i := range list {
		index := bootIndex(list[i].BootIndex)
		if index >= 0 && boots[index] {
			return invalidMapping("Boot sequence for the instance and image/block device mapping combination is not valid.")
		}
		boots[index] = true
		if err := s.addDevice(ctx, c, v, &list[i], index); err != nil {
			return err
		}
	}
	if len(list) == 0 || in.ImageRef != "" && len(in.Devices) == 0 {
		boots[0] = in.ImageRef != "" || boots[0] // the image is the root
	}
	for n := range boots {
		if n > 0 && !boots[n-1] {
			return invalidMapping("Boot sequence for the instance and image/block device mapping combination is not valid.")
		}
	}
	if !boots[0] && len(list) > 0 {
		return invalidMapping("Boot sequence for the instance and image/block device mapping combination is not valid.")
	}
	if v.Image.ID == "" && !v.volumeBacked() {
		return errs.Invalidf("Invalid imageRef provided.")
	}
	return nil
}

func bootIndex(v any) int {
	if v == nil {
		return -1
	}
	n, err := strconv.Atoi(wire.Text(v))
	if err != nil {
		return -1
	}
	return max(-1, n)
}

// addDevice checks one entry and adds what it asks for.
func (s *Service) addDevice(ctx context.Context, c *policy.Credentials, v *Server, d *blockDevice, index int) error {
	if d.Destination == "" {
		if d.Destination = "local"; d.Source == "volume" || d.Source == "snapshot" {
			d.Destination = "volume"
		}
	}
	switch {
	case d.Source == "blank" && d.UUID != "":
		return errs.Invalidf("Block Device Mapping is Invalid: Invalid device UUID.")
	case d.Source != "blank" && d.UUID == "":
		return invalidMapping("Missing device UUID.")
	case d.Kind != "" && !slices.Contains([]string{"disk", "cdrom", "floppy", "lun"}, d.Kind):
		return invalidMapping("Invalid device_type: %s.", d.Kind)
	case d.Bus != "" && !slices.Contains([]string{"virtio", "scsi", "sata", "ide", "usb"}, d.Bus):
		return invalidMapping("Disk bus %s is not valid.", d.Bus)
	case d.VolumeType != "" && (d.Destination == "local" || d.Source == "volume"):
		return errs.Invalidf("Specifying a volume_type with destination_type=%s and source_type=%s is not supported.", d.Destination, d.Source)
	}
	out := Device{ID: uuid.NewString(), Boot: index, Bus: d.Bus, Kind: d.Kind, Format: d.Format, Tag: d.Tag, DeleteToo: wire.Truthy(d.DeleteToo)}
	if d.Destination == "local" {
		return s.addLocal(ctx, c, v, d, out)
	}
	if s.Volumes == nil {
		return invalidMapping("there are no volumes here.")
	}
	if err := s.fromVolume(ctx, c, v, d, &out); err != nil {
		return err
	}
	if v.device(out.VolumeID) != nil {
		return invalidMapping("volume %s is given twice.", out.VolumeID)
	}
	v.Devices = append(v.Devices, out)
	return nil
}

func (s *Service) addLocal(ctx context.Context, c *policy.Credentials, v *Server, d *blockDevice, out Device) error {
	switch {
	case d.Source == "image" && out.Boot == 0:
		if v.Image.ID != "" && v.Image.ID != d.UUID {
			return errs.Invalidf("Block Device Mapping is Invalid: the image and the root device do not agree.")
		}
		return s.chooseImage(ctx, c, v, d.UUID)
	case d.Source == "image":
		return invalidMapping("Mapping image to local is not supported.")
	case d.Source != "blank":
		return invalidMapping("Invalid source_type field: a %s cannot be a local disk.", d.Source)
	case out.Boot >= 0:
		return invalidMapping("Boot sequence for the instance and image/block device mapping combination is not valid.")
	}
	if out.SizeGiB = wire.Number(d.Size); d.Format == "swap" {
		out.SizeMiB, out.SizeGiB = out.SizeGiB<<10, 0
	}
	v.Devices = append(v.Devices, out)
	return nil
}

// fromVolume finds the volume that the entry names, or what a new one is made of.
func (s *Service) fromVolume(ctx context.Context, c *policy.Credentials, v *Server, d *blockDevice, out *Device) error {
	size := wire.Number(d.Size)
	if d.Source == "volume" {
		vol, err := s.Volumes.Volume(ctx, c, d.UUID)
		if err != nil {
			return invalidMapping("failed to get volume %s.", d.UUID)
		}
		if err := attachable(vol); err != nil {
			return err
		}
		if out.Boot == 0 && !vol.Bootable {
			return errs.Invalidf("Block Device %s is not bootable.", vol.ID)
		}
		out.VolumeID, out.Owner = vol.ID, vol.ProjectID
		v.bootFrom(out, vol.Image)
		return nil
	}
	out.VolumeID, out.Owner = uuid.NewString(), c.ProjectID
	out.New = &NewVolume{ID: out.VolumeID, Type: d.VolumeType, SizeGiB: size}
	switch d.Source {
	case "snapshot":
		snap, err := s.Volumes.Snapshot(ctx, c, d.UUID)
		if err != nil {
			return invalidMapping("failed to get snapshot %s.", d.UUID)
		}
		if size == 0 {
			out.New.SizeGiB = snap.SizeGiB
		}
		out.New.Snapshot = snap.ID
		if origin, err := s.Volumes.Volume(ctx, c, snap.VolumeID); err == nil {
			v.bootFrom(out, origin.Image)
		}
	case "image":
		img, err := s.Images.Image(ctx, c, d.UUID)
		if err != nil || img.Status != "active" {
			return invalidMapping("failed to get image %s.", d.UUID)
		}
		if size == 0 {
			return invalidMapping("Images with destination_type 'volume' need to have a non-zero size specified")
		}
		if size < img.wholeGiB() && out.Boot == 0 {
			return errs.Invalidf("Volume is smaller than the minimum size specified in image metadata. Volume size is %d bytes, minimum size is %d bytes.", int64(size)<<30, int64(img.wholeGiB())<<30)
		}
		out.New.Image = img.ID
		props := map[string]string{"min_ram": strconv.Itoa(img.MinRAM), "image_id": img.ID}
		for k, val := range img.Properties {
			props[k] = val
		}
		v.bootFrom(out, props)
	case "blank":
		if size == 0 {
			return invalidMapping("Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")
		}
		// Also as the root: what a rescue, or the network, will install.
		v.bootFrom(out, nil)
	}
	return nil
}

// bootFrom takes over what a root volume knows of its image, when no image was named.
func (v *Server) bootFrom(d *Device, image map[string]string) {
	if d.Boot != 0 {
		return
	}
	if d.Image = image["image_id"]; v.Image.ID != "" {
		return
	}
	v.Image = Image{Properties: map[string]string{}}
	for k, val := range image {
		switch k {
		case "min_ram":
			v.Image.MinRAM = wire.Number(val)
		case "image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "size":
		default:
			v.Image.Properties[k] = val
		}
	}
}

// attachable tells whether a volume can be claimed as it is (nova/volume/cinder.py, check_availability).
func attachable(vol *Volume) error {
	if vol.Status == "available" || vol.Multiattach && (vol.Status == "in-use" || vol.Status == "reserved" || vol.Status == "attaching") {
		return nil
	}
	return errs.Invalidf("Invalid volume: Volume %s status must be available to reserve, but the current status is %s.", vol.ID, vol.Status)
}

// checkLocals holds the local disks to the flavor (nova/compute/api.py, _validate_bdm) and names everything.
func (s *Service) checkLocals(v *Server) error {
	ephemeral, swap := 0, v.locals(true)
	for i := range v.Devices {
		d := &v.Devices[i]
		if d.VolumeID == "" && d.Format != "swap" {
			if d.SizeGiB == 0 {
				d.SizeGiB = v.Flavor.Ephemeral
			}
			ephemeral += d.SizeGiB
		}
		if d.VolumeID == "" && d.Format == "swap" && d.SizeMiB == 0 {
			d.SizeMiB = v.Flavor.Swap
		}
	}
	switch {
	case ephemeral > v.Flavor.Ephemeral:
		return invalidMapping("Ephemeral disks requested are larger than the instance type allows. If no size is given in one block device mapping, flavor ephemeral size will be used.")
	case len(swap) > 1:
		return invalidMapping("More than one swap drive requested.")
	case len(swap) == 1 && swap[0].SizeMiB > v.Flavor.Swap:
		return invalidMapping("Swap drive requested is larger than instance type allows.")
	}
	if !v.nameDevices() {
		return errs.Forbiddenf("The maximum allowed number of disk devices (26) to attach to a single instance has been exceeded.")
	}
	return nil
}
