package image

import (
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
)

// inspectable are the disk formats that content can be told to be.
var inspectable = []string{"raw", "qcow2", "vhd", "vhdx", "vmdk", "vdi", "iso"}

// archives are containers whose content is no disk itself.
var archives = []string{"ova", "docker", "compressed"}

func unsafeContent(why string) error {
	return errs.New(errs.MediaType, "Image content is not acceptable: %s", why)
}

// fits checks that the content is what the image declares and is safe to open. As
// in upstream (glance/location.py, ImageProxy), raw may be declared for anything,
// in which case it is only ever used as raw, but what refers to other files is
// refused even then: whoever probes it later would follow the reference.
func (r Result) fits(v *Image) error {
	if slices.Contains(archives, v.ContainerFormat) {
		return nil
	}
	if r.Unsafe != "" {
		return unsafeContent(r.Unsafe)
	}
	switch {
	case r.Format == v.DiskFormat, v.DiskFormat == "raw":
		return nil
	case r.Format == "raw" && !slices.Contains(inspectable, v.DiskFormat):
		return nil
	}
	return errs.New(errs.MediaType, "Image disk_format %s does not match stream data %s", v.DiskFormat, r.Format)
}

// virtualSize is the size of the disk that a guest would see, nil when not known.
func (r Result) virtualSize(v *Image) *int64 {
	switch {
	case slices.Contains(archives, v.ContainerFormat):
		return nil
	case v.DiskFormat == "raw":
		return ptr(r.Size)
	case r.Format == v.DiskFormat && r.Virtual > 0:
		return ptr(r.Virtual)
	}
	return nil
}
