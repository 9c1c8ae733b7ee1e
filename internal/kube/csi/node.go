package csi

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/keyed"
	"github.com/strata-cloud/strata/internal/kube/csi/driver"
)

// node answers kubelet.
type node struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	name  string
	disks Disks
	most  int
	locks keyed.Mutex // by volume
}

// GetPluginInfo implements csi.IdentityServer.
func (n *node) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return driver.Info(), nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (n *node) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return driver.Capabilities(), nil
}

// Probe implements csi.IdentityServer.
func (n *node) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

// NodeGetInfo implements csi.NodeServer.
func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.name, MaxVolumesPerNode: int64(n.most)}, nil
}

// NodeGetCapabilities implements csi.NodeServer.
func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER} {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}}})
	}
	return out, nil
}

// formOf is what a capability asks for.
func formOf(c *csi.VolumeCapability) (fsmount.Form, error) {
	if c == nil {
		return fsmount.Form{}, errs.Invalidf("What is the volume for?")
	}
	if err := driver.Check(c); err != nil {
		return fsmount.Form{}, err
	}
	if c.GetBlock() != nil {
		return fsmount.Form{Raw: true}, nil
	}
	return fsmount.Form{Kind: c.GetMount().FsType, Options: c.GetMount().MountFlags, Trusted: true}, nil
}

// absolute refuses what is no path for a volume.
func absolute(path string) error {
	if path == "" || !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return errs.Invalidf("%q is no path for a volume", path)
	}
	return nil
}

// NodeStageVolume implements csi.NodeServer.
func (n *node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	out := &csi.NodeStageVolumeResponse{}
	form, err := formOf(r.VolumeCapability)
	if r.VolumeId == "" {
		err = errs.Invalidf("Which volume?")
	}
	if err := errors.Join(err, absolute(r.StagingTargetPath)); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	defer n.locks.Lock(r.VolumeId)()
	if !form.Raw {
		form.At = r.StagingTargetPath
	}
	if _, err := n.disks.Ensure(ctx, r.VolumeId, form); err != nil {
		return nil, driver.Refusal(err)
	}
	return out, nil
}

// NodeUnstageVolume implements csi.NodeServer.
func (n *node) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if r.VolumeId == "" || absolute(r.StagingTargetPath) != nil {
		return nil, status.Error(codes.InvalidArgument, "Which volume, and where?")
	}
	defer n.locks.Lock(r.VolumeId)()
	err := unbind(r.StagingTargetPath)
	if err == nil {
		err = n.disks.Release(ctx, r.VolumeId)
	}
	if err != nil {
		return nil, driver.Refusal(err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume implements csi.NodeServer.
func (n *node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	form, err := formOf(r.VolumeCapability)
	if r.VolumeId == "" {
		err = errs.Invalidf("Which volume?")
	}
	if err := errors.Join(err, absolute(r.TargetPath)); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if r.StagingTargetPath == "" {
		return nil, status.Error(codes.FailedPrecondition, "the volume is staged first")
	}
	defer n.locks.Lock(r.VolumeId)()
	if form.Raw {
		device, err := n.disks.Ensure(ctx, r.VolumeId, form)
		if err == nil {
			err = bindFile(device, r.TargetPath)
		}
		if err != nil {
			return nil, driver.Refusal(err)
		}
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if ok, err := mounted(r.StagingTargetPath); err != nil || !ok {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s (%v)", r.VolumeId, r.StagingTargetPath, err)
	}
	if r.VolumeCapability.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		if err := alone(r.StagingTargetPath, r.TargetPath); err != nil {
			return nil, driver.Refusal(err)
		}
	}
	if err := bindDir(r.StagingTargetPath, r.TargetPath, r.Readonly); err != nil {
		return nil, driver.Refusal(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume implements csi.NodeServer.
func (n *node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.VolumeId == "" || absolute(r.TargetPath) != nil {
		return nil, status.Error(codes.InvalidArgument, "Which volume, and where?")
	}
	defer n.locks.Lock(r.VolumeId)()
	err := unbind(r.TargetPath)
	if err == nil {
		if err = os.Remove(r.TargetPath); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, driver.Refusal(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume implements csi.NodeServer.
func (n *node) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if r.VolumeId == "" || r.VolumePath == "" {
		return nil, status.Error(codes.InvalidArgument, "Which volume, and where?")
	}
	if _, err := os.Stat(r.VolumePath); err != nil {
		return nil, status.Errorf(codes.NotFound, "there is no volume at %s", r.VolumePath)
	}
	defer n.locks.Lock(r.VolumeId)()
	size := r.CapacityRange.GetRequiredBytes()
	if err := n.disks.Grow(ctx, r.VolumeId, size); err != nil {
		return nil, driver.Refusal(err)
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, nil
}

// NodeGetVolumeStats implements csi.NodeServer.
func (n *node) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if r.VolumeId == "" || r.VolumePath == "" {
		return nil, status.Error(codes.InvalidArgument, "Which volume, and where?")
	}
	info, err := os.Stat(r.VolumePath)
	if err != nil {
		return nil, status.Errorf(codes.NotFound, "there is no volume at %s", r.VolumePath)
	}
	if info.Mode()&os.ModeDevice != 0 {
		f, err := os.Open(r.VolumePath)
		if err != nil {
			return nil, driver.Refusal(err)
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, driver.Refusal(err)
		}
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: size}}}, nil
	}
	if ok, err := mounted(r.VolumePath); err != nil || !ok {
		return nil, status.Errorf(codes.NotFound, "there is no volume at %s", r.VolumePath)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.VolumePath, &st); err != nil {
		return nil, driver.Refusal(err)
	}
	usage := func(unit csi.VolumeUsage_Unit, total, free, available uint64, of int64) *csi.VolumeUsage {
		return &csi.VolumeUsage{Unit: unit, Total: int64(total) * of, Used: int64(total-free) * of, Available: int64(available) * of}
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{usage(csi.VolumeUsage_BYTES, st.Blocks, st.Bfree, st.Bavail, st.Bsize), usage(csi.VolumeUsage_INODES, st.Files, st.Ffree, st.Ffree, 1)}}, nil
}

// alone refuses a second pod with a volume that one pod has for itself. What a pod's
// containers have of it (subPath) is mounted from below its root.
func alone(staged, target string) error {
	all, err := mountinfoOf()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(m point) bool { return m.Mountpoint == staged })
	if i < 0 {
		return errs.Conflictf("the volume is not at %s any more", staged)
	}
	for _, m := range all {
		if m.device() == all[i].device() && m.Root == all[i].Root && m.Mountpoint != staged && m.Mountpoint != target {
			return errs.Conflictf("another pod has the volume for itself (ReadWriteOncePod)")
		}
	}
	return nil
}
