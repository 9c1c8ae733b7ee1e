package compute

import (
	"slices"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Device is a block device that the user gave a server, at create or later:
// upstream's block device mapping. What the flavor gives is not among them, except
// where a mapping says how (ephemeral and swap disks).
type Device struct {
	// ID names the mapping and, for a volume, the attachment.
	ID string `json:"id"`
	// VolumeID is empty for a local disk. A volume that is made for the server has
	// its id from the start.
	VolumeID string `json:"volume_id,omitempty"`
	Owner    string `json:"owner,omitempty"` // the volume's project
	Image    string `json:"image,omitempty"` // that a root volume was made from
	// New is how the volume is made; nil: it was there before.
	New *NewVolume `json:"new,omitempty"`
	// SizeGiB is of a local disk; SizeMiB of swap.
	SizeGiB int    `json:"size_gib,omitempty"`
	SizeMiB int    `json:"size_mib,omitempty"`
	Boot    int    `json:"boot"` // upstream's boot_index: 0 is the root; below 0 never
	Name    string `json:"name"` // such as /dev/vdb
	Bus     string `json:"bus,omitempty"`
	Kind    string `json:"kind,omitempty"`         // device_type: disk or cdrom
	Format  string `json:"guest_format,omitempty"` // guest_format
	Tag     string `json:"tag,omitempty"`
	// DeleteToo deletes the volume with the server.
	DeleteToo bool        `json:"delete_on_termination,omitempty"`
	State     DeviceState `json:"state,omitempty"`
	// Source and Limits are how the host reaches the volume, while it does.
	Source *nodeapi.VolumeSource `json:"source,omitempty"`
	Limits *nodeapi.IOLimits     `json:"limits,omitempty"`
}

// DeviceState is how far a volume has come into a server, or out of it.
type DeviceState string

// The states; the empty one is wanted and not yet reserved.
const (
	DeviceReserved  DeviceState = "reserved"
	DeviceAttached  DeviceState = "attached"
	DeviceDetaching DeviceState = "detaching"
)

// volumeBacked tells a server whose root disk is a volume.
func (v *Server) volumeBacked() bool { return v.rootVolume() != nil }

func (v *Server) rootVolume() *Device {
	for i := range v.Devices {
		if d := &v.Devices[i]; d.VolumeID != "" && d.Boot == 0 {
			return d
		}
	}
	return nil
}

// device finds a volume of the server.
func (v *Server) device(volume string) *Device {
	for i := range v.Devices {
		if v.Devices[i].VolumeID == volume {
			return &v.Devices[i]
		}
	}
	return nil
}

// volumes are the server's volumes that are not mere wishes.
func (v *Server) volumes() []Device {
	return slices.DeleteFunc(slices.Clone(v.Devices), func(d Device) bool { return d.VolumeID == "" || d.State == "" })
}

// locals are the local disks that mappings ask for, of the kind: swap or ephemeral.
func (v *Server) locals(swap bool) []Device {
	return slices.DeleteFunc(slices.Clone(v.Devices), func(d Device) bool { return d.VolumeID != "" || (d.Format == "swap") != swap })
}

// devicePrefix is what names on the bus begin with (nova/virt/libvirt/blockinfo.py).
func devicePrefix(bus string) string {
	switch bus {
	case "scsi", "sata", "usb":
		return "/dev/sd"
	case "ide":
		return "/dev/hd"
	}
	return "/dev/vd"
}

func (v *Server) busOf(d *Device) string {
	if d.Bus != "" {
		return d.Bus
	}
	return v.Image.Properties["hw_disk_bus"]
}

// nameDevices gives the devices that have no name the first free ones, after those
// that the flavor's disks take. It tells whether there were enough.
func (v *Server) nameDevices() bool {
	taken := map[string]bool{}
	prefix := devicePrefix(v.Image.Properties["hw_disk_bus"])
	local := v.ownDisks(v.DiskSet)
	if v.volumeBacked() {
		local = append(local, nodeapi.Disk{})
	}
	for i := range local {
		taken[prefix+letter(i)] = true
	}
	for _, d := range v.Devices {
		taken[d.Name] = true
	}
	next := 1 // the first is the root's
	for i := range v.Devices {
		d := &v.Devices[i]
		switch {
		case d.Name != "":
		case d.Boot == 0:
			d.Name = devicePrefix(v.busOf(d)) + "a"
		case d.VolumeID == "":
			d.Name = prefix + letter(next)
			next++
		}
	}
	for i := range v.Devices {
		d := &v.Devices[i]
		for n := 0; d.Name == "" && n < 26; n++ {
			if name := devicePrefix(v.busOf(d)) + letter(n); !taken[name] {
				d.Name, taken[name] = name, true
			}
		}
		if d.Name == "" {
			return false
		}
	}
	return true
}

func letter(n int) string { return string(rune('a' + n)) }

func (v *Server) rootName() string {
	if d := v.rootVolume(); d != nil {
		return d.Name
	}
	return devicePrefix(v.Image.Properties["hw_disk_bus"]) + "a"
}

// withVolumes puts the connected volumes among the local disks: the root first.
func (v *Server) withVolumes(local []nodeapi.Disk) []nodeapi.Disk {
	var first, rest []nodeapi.Disk
	for i := range v.Devices {
		d := &v.Devices[i]
		if d.Source == nil || d.State == DeviceDetaching {
			continue
		}
		disk := nodeapi.Disk{Name: "volume-" + d.VolumeID, Role: "volume", SizeGiB: d.SizeGiB, Bus: v.busOf(d), Boot: max(0, d.Boot+1), Serial: d.VolumeID, Tag: d.Tag,
			Device: d.Name, ReadOnly: d.Kind == "cdrom", Volume: d.Source, Limits: d.Limits}
		if d.Boot == 0 {
			first = append(first, disk)
		} else {
			rest = append(rest, disk)
		}
	}
	return slices.Concat(first, local, rest)
}

// localDisks are the ephemeral and swap disks: the flavor's, or how mappings divide them.
func (v *Server) localDisks(bus string) []nodeapi.Disk {
	var out []nodeapi.Disk
	add := func(d Device, role string, gib, mib int) {
		on := bus
		if d.Bus != "" {
			on = d.Bus
		}
		out = append(out, nodeapi.Disk{Role: role, SizeGiB: gib, SizeMiB: mib, Bus: on, Tag: d.Tag})
	}
	ephemeral, swap := v.locals(false), v.locals(true)
	if len(ephemeral) == 0 && v.Flavor.Ephemeral > 0 {
		add(Device{}, "ephemeral", v.Flavor.Ephemeral, 0)
	}
	for _, d := range ephemeral {
		add(d, "ephemeral", d.SizeGiB, 0)
	}
	if len(swap) == 0 && v.Flavor.Swap > 0 {
		add(Device{}, "swap", 0, v.Flavor.Swap)
	}
	for _, d := range swap {
		add(d, "swap", 0, d.SizeMiB)
	}
	return out
}

// diskName names a local disk of a set.
func diskName(n, set int) string {
	name := "disk" + strconv.Itoa(n)
	if set > 0 {
		name += "-" + strconv.Itoa(set)
	}
	return name
}

// bareName is a device name without /dev/.
func bareName(name string) string { return strings.TrimPrefix(name, "/dev/") }
