// Package driver is what the two halves of the driver of the container storage interface
// (CSI) have in common: what it is called, and what volumes may be asked for.
package driver

import (
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/strata-cloud/strata/internal/errs"
)

// Name is the driver's, in clusters.
const Name = "csi.strata.cloud"

// version is the driver's, which goes with the region.
const version = "1"

// Info is what the driver says of itself.
func Info() *csi.GetPluginInfoResponse {
	return &csi.GetPluginInfoResponse{Name: Name, VendorVersion: version}
}

// Capabilities are the driver's.
func Capabilities() *csi.GetPluginCapabilitiesResponse {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}}},
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}
}

// fileSystems are those that volumes can have; the first unless another is asked for.
var fileSystems = []string{"ext4", "ext3", "xfs"}

// Check refuses a use of a volume that is not possible.
func Check(c *csi.VolumeCapability) error {
	if c.GetBlock() == nil && c.GetMount() == nil {
		return errs.Invalidf("A volume is asked for as a block device or with a file system.")
	}
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	default:
		return errs.Invalidf("A volume is used by one node at a time (ReadWriteOnce or ReadWriteOncePod): the access mode %s is not possible.", mode)
	}
	if kind := c.GetMount().GetFsType(); kind != "" && !slices.Contains(fileSystems, kind) {
		return errs.Invalidf("The file system %q is not known: volumes have %s.", kind, strings.Join(fileSystems, ", "))
	}
	return nil
}
