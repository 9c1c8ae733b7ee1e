package image

import (
	"slices"
	"time"

	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// Status is upstream's (glance/domain/__init__.py).
type Status string

// The states that this version uses.
const (
	Queued      Status = "queued"
	Saving      Status = "saving"
	Uploading   Status = "uploading"
	Active      Status = "active"
	Deactivated Status = "deactivated"
)

// The visibilities.
const (
	Public    = "public"
	Private   = "private"
	Shared    = "shared"
	Community = "community"
)

// Image is the record of one image.
type Image struct {
	ID              string            `json:"id"`
	Name            *string           `json:"name,omitempty"`
	Status          Status            `json:"status"`
	Visibility      string            `json:"visibility"`
	Owner           string            `json:"owner"` // project; "" for none
	Protected       bool              `json:"protected,omitempty"`
	Hidden          bool              `json:"hidden,omitempty"`
	DiskFormat      string            `json:"disk_format,omitempty"`
	ContainerFormat string            `json:"container_format,omitempty"`
	MinDisk         int64             `json:"min_disk,omitempty"` // GiB
	MinRAM          int64             `json:"min_ram,omitempty"`  // MiB
	Size            *int64            `json:"size,omitempty"`     // bytes of the data
	VirtualSize     *int64            `json:"virtual_size,omitempty"`
	Checksum        string            `json:"checksum,omitempty"` // md5, hexadecimal
	Hash            string            `json:"hash,omitempty"`     // sha512, hexadecimal
	Tags            []string          `json:"tags,omitempty"`
	Properties      map[string]string `json:"properties,omitempty"`
	Members         []Member          `json:"members,omitempty"`
	Created         time.Time         `json:"created"`
	Updated         time.Time         `json:"updated"`

	Blob   string  `json:"blob,omitempty"`   // file with the data
	Upload string  `json:"upload,omitempty"` // of the writer that put it in saving
	Staged *Staged `json:"staged,omitempty"` // while it is uploading
}

// Staged is data that waits for its import.
type Staged struct {
	Blob   string `json:"blob"`
	Result Result `json:"result"`
}

// Member is a project that a shared image is offered to.
type Member struct {
	ProjectID string    `json:"project_id"`
	Status    string    `json:"status"` // pending, accepted or rejected
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
}

func register(db *store.DB) *store.Collection[Image] {
	return store.Register(db, store.Schema[Image]{Service: "image", Kind: "image", Version: 1,
		ID: func(v *Image) string { return v.ID },
		Index: map[string]func(*Image) []string{
			"owner":      func(v *Image) []string { return []string{v.Owner} },
			"visibility": func(v *Image) []string { return []string{v.Visibility} },
			"member": func(v *Image) []string {
				var out []string
				for _, m := range v.Members {
					out = append(out, m.ProjectID)
				}
				return out
			},
		}})
}

// member finds a project's membership, or nil.
func (v *Image) member(projectID string) *Member {
	if i := slices.IndexFunc(v.Members, func(m Member) bool { return m.ProjectID == projectID }); i >= 0 {
		return &v.Members[i]
	}
	return nil
}

// visibleTo tells whether the caller may know that the image exists
// (glance/db/utils.py, is_image_visible).
func (v *Image) visibleTo(c *policy.Credentials) bool {
	switch {
	case c.Admin(), v.Visibility == Public, v.Visibility == Community, v.Owner == "":
		return true
	case c.ProjectID == "":
		return false
	}
	return v.Owner == c.ProjectID || v.Visibility == Shared && v.member(c.ProjectID) != nil
}

// target is what the rules of policies.go refer to.
func (v *Image) target(c *policy.Credentials) policy.Target {
	t := policy.Target{"project_id": v.Owner, "owner": v.Owner, "visibility": v.Visibility}
	if c.ProjectID != "" && v.member(c.ProjectID) != nil {
		t["member_id"] = c.ProjectID
	}
	return t
}

// touch notes a change.
func (v *Image) touch() { v.Updated = now() }

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func ptr[T any](v T) *T { return &v }
