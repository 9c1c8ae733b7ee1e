package image

import (
	"time"

	"github.com/strata-cloud/strata/internal/rest"
)

const wireTime = "2006-01-02T15:04:05Z"

func wire(t time.Time) string { return t.UTC().Format(wireTime) }

// orNull is v, or null when it is empty.
func orNull(v string) any {
	if v == "" {
		return nil
	}
	return v
}

// view is the image as the API shows it. Links are paths without a host, as
// upstream writes them (glance/api/v2/images.py, ResponseSerializer).
func (v *Image) view() map[string]any {
	out := map[string]any{}
	for k, p := range v.Properties {
		out[k] = p
	}
	self := "/v2/images/" + v.ID
	algo := any(nil)
	if v.Hash != "" {
		algo = "sha512"
	}
	tags := v.Tags
	if tags == nil {
		tags = []string{}
	}
	for k, x := range map[string]any{"id": v.ID, "name": v.Name, "status": v.Status, "visibility": v.Visibility, "owner": orNull(v.Owner),
		"protected": v.Protected, "os_hidden": v.Hidden, "disk_format": orNull(v.DiskFormat), "container_format": orNull(v.ContainerFormat),
		"min_disk": v.MinDisk, "min_ram": v.MinRAM, "size": v.Size, "virtual_size": v.VirtualSize, "checksum": orNull(v.Checksum),
		"os_hash_algo": algo, "os_hash_value": orNull(v.Hash), "tags": tags, "created_at": wire(v.Created), "updated_at": wire(v.Updated),
		"self": self, "file": self + "/file", "schema": "/v2/schemas/image"} {
		out[k] = x
	}
	return out
}

func (m *Member) view(imageID string) map[string]any {
	return map[string]any{"member_id": m.ProjectID, "image_id": imageID, "status": m.Status,
		"created_at": wire(m.Created), "updated_at": wire(m.Updated), "schema": "/v2/schemas/member"}
}

// gone answers 410: the image was deleted while its data came in.
func gone(text string) *rest.Response {
	return rest.JSON(410, text).With("Content-Type", "text/plain; charset=UTF-8")
}
