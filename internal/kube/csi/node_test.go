package csi

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/blockdev/fsmount"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/needs"
)

// disks are volumes that are file systems in memory, and devices that are files.
type disks struct {
	t     *testing.T
	did   []string
	forms []fsmount.Form
	fails error
}

func (d *disks) Ensure(_ context.Context, volume string, form fsmount.Form) (string, error) {
	if d.fails != nil {
		return "", d.fails
	}
	d.did, d.forms = append(d.did, "ensure "+volume), append(d.forms, form)
	if form.Raw {
		device := filepath.Join(d.t.TempDir(), volume)
		return device, os.WriteFile(device, []byte("device"), 0o600)
	}
	if ok, err := mounted(form.At); err != nil || ok {
		return form.At, err
	}
	if err := os.MkdirAll(form.At, 0o755); err != nil {
		return "", err
	}
	return form.At, unix.Mount("tmpfs", form.At, "tmpfs", 0, "size=1m")
}

func (d *disks) Release(_ context.Context, volume string) error {
	d.did = append(d.did, "release "+volume)
	return d.fails
}

func (d *disks) Grow(_ context.Context, volume string, size int64) error {
	d.did = append(d.did, "grow "+volume)
	return d.fails
}

func (d *disks) Clear(context.Context) error { return nil }

// nodeOf is a node with a directory in which everything is unmounted at the end.
func nodeOf(t *testing.T) (*node, *disks, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, err := mountinfoOf()
		if err != nil {
			t.Error(err)
		}
		for _, m := range slices.Backward(all) {
			if in, err := filepath.Rel(dir, m.Mountpoint); err == nil && filepath.IsLocal(in) {
				t.Errorf("%s is left mounted", m.Mountpoint)
				_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
			}
		}
	})
	d := &disks{t: t}
	return &node{name: "n1", disks: d, most: 7}, d, dir
}

func fileSystem(kind string, mode csi.VolumeCapability_AccessMode_Mode, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: kind, MountFlags: flags}}}
}

func device() *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}, AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}}
}

const writer, alonely = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER

func refused(t *testing.T, what string, want codes.Code, err error) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestNodeInput: what cannot be meant is refused, and nothing is done.
func TestNodeInput(t *testing.T) {
	n, d, dir := nodeOf(t)
	ctx, at, file := t.Context(), filepath.Join(dir, "s"), fileSystem("ext4", writer)
	for what, call := range map[string]func() error{
		"staging no volume": func() error {
			_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{StagingTargetPath: at, VolumeCapability: file})
			return err
		},
		"staging nowhere": func() error {
			_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "v", VolumeCapability: file})
			return err
		},
		"staging at a relative path": func() error {
			_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: "s", VolumeCapability: file})
			return err
		},
		"staging at a crooked path": func() error {
			_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: dir + "/../etc", VolumeCapability: file})
			return err
		},
		"staging for nothing": func() error {
			_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: at})
			return err
		},
		"publishing no volume": func() error {
			_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{StagingTargetPath: at, TargetPath: at, VolumeCapability: file})
			return err
		},
		"publishing nowhere": func() error {
			_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: at, VolumeCapability: file})
			return err
		},
		"unstaging nothing": func() error {
			_, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{StagingTargetPath: at})
			return err
		},
		"unstaging nowhere": func() error {
			_, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "v"})
			return err
		},
		"unpublishing nothing": func() error {
			_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{TargetPath: at})
			return err
		},
		"unpublishing nowhere": func() error {
			_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "v"})
			return err
		},
		"growing nothing": func() error {
			_, err := n.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumePath: at})
			return err
		},
		"figures of nothing": func() error {
			_, err := n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumePath: at})
			return err
		},
	} {
		refused(t, what, codes.InvalidArgument, call())
	}
	_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", TargetPath: at, VolumeCapability: file})
	refused(t, "publishing what names no stage", codes.FailedPrecondition, err)
	_, err = n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: at, TargetPath: at + "t", VolumeCapability: file})
	refused(t, "publishing what is not staged", codes.FailedPrecondition, err)
	_, err = n.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: "v", VolumePath: at})
	refused(t, "growing what is not there", codes.NotFound, err)
	_, err = n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: at})
	refused(t, "figures of what is not there", codes.NotFound, err)
	_, err = n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: dir})
	refused(t, "figures of what is not mounted", codes.NotFound, err)
	if len(d.did) > 0 {
		t.Errorf("meanwhile there was done %v", d.did)
	}
	info, err := n.NodeGetInfo(ctx, nil)
	if err != nil || info.NodeId != "n1" || info.MaxVolumesPerNode != 7 {
		t.Errorf("the node is %v, %v", info, err)
	}
}

// TestNodeForms: what is asked for is what the disks are told, and they say why not.
func TestNodeForms(t *testing.T) {
	n, d, dir := nodeOf(t)
	at := filepath.Join(dir, "s")
	if _, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: at, VolumeCapability: device()}); err != nil {
		t.Fatal(err)
	}
	if len(d.forms) != 1 || !d.forms[0].Raw || d.forms[0].At != "" {
		t.Errorf("of a device the disks are told %+v", d.forms)
	}
	for fails, want := range map[error]codes.Code{errs.NotFoundf("not attached"): codes.NotFound, errs.New(errs.Unavailable, "away"): codes.Unavailable} {
		d.fails = fails
		_, err := n.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: at, VolumeCapability: fileSystem("xfs", writer)})
		refused(t, "staging", want, err)
		_, err = n.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: "v", StagingTargetPath: at})
		refused(t, "unstaging", want, err)
		_, err = n.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: "v", VolumePath: dir})
		refused(t, "growing", want, err)
	}
}

// mounts skips what cannot mount.
func mounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "mounting needs root")
	}
}

// TestNodeFileSystem has a volume go the way of a pod's, each step twice.
func TestNodeFileSystem(t *testing.T) {
	mounts(t)
	n, d, dir := nodeOf(t)
	ctx, staged, target, second := t.Context(), filepath.Join(dir, "staged"), filepath.Join(dir, "pod/mount"), filepath.Join(dir, "other/mount")
	twice := func(what string, call func() error) {
		t.Helper()
		for range 2 {
			if err := call(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	publish := func(target string, readOnly bool) error {
		_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: staged, TargetPath: target, Readonly: readOnly, VolumeCapability: fileSystem("ext4", writer)})
		return err
	}
	unpublish := func(target string) error {
		_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: target})
		return err
	}
	twice("staging", func() error {
		_, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: "v", StagingTargetPath: staged, VolumeCapability: fileSystem("ext4", writer, "noatime")})
		return err
	})
	if f := d.forms[0]; f.Raw || f.At != staged || f.Kind != "ext4" || !slices.Equal(f.Options, []string{"noatime"}) || !f.Trusted {
		t.Errorf("the disks are told %+v", f)
	}
	twice("publishing", func() error { return publish(target, false) })
	if err := os.WriteFile(filepath.Join(target, "x"), []byte("pod's"), 0o600); err != nil {
		t.Error(err)
	}
	refused(t, "publishing in another way", codes.FailedPrecondition, publish(target, true))
	twice("publishing to another pod that reads", func() error { return publish(second, true) })
	if raw, err := os.ReadFile(filepath.Join(second, "x")); err != nil || string(raw) != "pod's" {
		t.Errorf("the other pod reads %q, %v", raw, err)
	}
	if err := os.WriteFile(filepath.Join(second, "y"), nil, 0o600); err == nil {
		t.Error("a pod that reads only writes")
	}
	stats, err := n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: target})
	if err != nil || len(stats.Usage) != 2 || stats.Usage[0].Total != 1<<20 || stats.Usage[0].Used+stats.Usage[0].Available != 1<<20 || stats.Usage[1].Used < 2 {
		t.Errorf("the figures are %v, %v", stats, err)
	}
	_, err = n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: staged, TargetPath: filepath.Join(dir, "third"), VolumeCapability: fileSystem("ext4", alonely)})
	refused(t, "publishing to one more who wants it alone", codes.FailedPrecondition, err)
	twice("unpublishing", func() error { return unpublish(target) })
	twice("unpublishing the other", func() error { return unpublish(second) })
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("the pod's directory is left: %v", err)
	}
	twice("publishing to a pod that is alone", func() error {
		_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: staged, TargetPath: target, VolumeCapability: fileSystem("ext4", alonely)})
		return err
	})
	twice("unpublishing it", func() error { return unpublish(target) })
	twice("unstaging", func() error {
		_, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: "v", StagingTargetPath: staged})
		return err
	})
	if want := []string{"ensure v", "ensure v", "release v", "release v"}; !slices.Equal(d.did, want) {
		t.Errorf("the disks did %v, want %v", d.did, want)
	}
}

// TestNodeDevice has a pod be given a device.
func TestNodeDevice(t *testing.T) {
	mounts(t)
	n, _, dir := nodeOf(t)
	target := filepath.Join(dir, "pod", "device")
	for range 2 {
		_, err := n.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: "v", StagingTargetPath: filepath.Join(dir, "s"), TargetPath: target, VolumeCapability: device()})
		if err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(target); err != nil || string(raw) != "device" {
		t.Errorf("the pod has %q, %v", raw, err)
	}
	for range 2 {
		if _, err := n.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: target}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("the pod's device is left: %v", err)
	}
}
