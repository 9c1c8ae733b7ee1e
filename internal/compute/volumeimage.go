package compute

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/compute/wire"
)

// imageOfVolumes makes the image one of snapshots: its data is empty, and its
// properties say what a server is started from (nova/compute/api.py,
// snapshot_volume_backed).
func (v *Server) imageOfVolumes(a *imageArgs) error {
	var mapping []map[string]any
	for _, d := range v.Devices {
		e := map[string]any{"boot_index": d.Boot, "device_name": d.Name, "device_type": wire.OrNull(d.Kind), "disk_bus": wire.OrNull(d.Bus), "guest_format": wire.OrNull(d.Format),
			"delete_on_termination": d.DeleteToo, "tag": wire.OrNull(d.Tag), "no_device": nil, "image_id": nil, "snapshot_id": nil, "volume_id": nil, "volume_type": nil}
		switch {
		case d.VolumeID == "":
			e["source_type"], e["destination_type"], e["volume_size"] = "blank", "local", max(d.SizeGiB, d.SizeMiB>>10)
		case d.State == "":
			continue
		default:
			snap := NewSnapshot{ID: uuid.NewString(), VolumeID: d.VolumeID, Name: fmt.Sprintf("snapshot for %s", a.Image.Name)}
			a.Snapshots = append(a.Snapshots, snap)
			e["source_type"], e["destination_type"], e["snapshot_id"] = "snapshot", "volume", snap.ID
		}
		mapping = append(mapping, e)
	}
	text, err := json.Marshal(mapping)
	if err != nil {
		return err
	}
	a.Image.Format, a.Image.MinDisk = "raw", v.Image.MinDisk
	p := a.Image.Properties
	p["block_device_mapping"], p["bdm_v2"], p["root_device_name"] = string(text), "True", v.rootName()
	if p["base_image_ref"] == "" {
		delete(p, "base_image_ref")
	}
	return nil
}

// snapVolumes takes the snapshots and then finishes the image. Snapshots of a try
// that failed stay, as the user's own.
func (s *Service) snapVolumes(ctx context.Context, v *Server, a *imageArgs) error {
	for _, snap := range a.Snapshots {
		d := v.device(snap.VolumeID)
		if d == nil {
			return errNoDevice
		}
		if err := s.Volumes.EnsureSnapshot(ctx, ownerOf(v, d), snap); err != nil {
			return err
		}
	}
	for _, snap := range a.Snapshots {
		if err := s.Volumes.AwaitSnapshot(ctx, snap.ID); err != nil {
			return err
		}
	}
	return s.Images.Fill(ctx, a.Image.ID, bytes.NewReader(nil))
}
