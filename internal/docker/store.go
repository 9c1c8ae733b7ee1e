package docker

import (
	"time"

	"github.com/strata-cloud/strata/internal/store"
)

// State is how far a container has come.
type State string

// The states.
const (
	Creating State = "creating"
	Ready    State = "ready"
	Removing State = "removing"
)

// Container is a project's container.
type Container struct {
	ID         string    `json:"id"` // 64 hexadecimal digits, as Docker's
	ProjectID  string    `json:"project_id"`
	UserID     string    `json:"user_id"`
	Name       string    `json:"name"`
	State      State     `json:"state"`
	Node       string    `json:"node,omitempty"`
	Image      string    `json:"image"`    // as it was asked for
	ImageID    string    `json:"image_id"` // the digest
	Ports      []Port    `json:"ports,omitempty"`
	Volumes    []Mount   `json:"volumes,omitempty"`
	Leaving    []string  `json:"leaving,omitempty"` // attachments that end with it
	VCPUs      int       `json:"vcpus"`
	MemoryMiB  int       `json:"memory_mib"`
	AutoRemove bool      `json:"auto_remove,omitempty"`
	Created    time.Time `json:"created"`
}

// Port is a container's place on a network.
type Port struct {
	ID        string   `json:"id"`
	NetworkID string   `json:"network_id"`
	Network   string   `json:"network"`            // its name at the time
	FixedIP   string   `json:"fixed_ip,omitempty"` // that was asked for
	Groups    []string `json:"groups,omitempty"`   // security groups, likewise
	Aliases   []string `json:"aliases,omitempty"`
	Device    string   `json:"device,omitempty"` // in the container
}

// ConsumerID is the container to services that know things by a UUID.
func (c *Container) ConsumerID() string {
	return c.ID[:8] + "-" + c.ID[8:12] + "-" + c.ID[12:16] + "-" + c.ID[16:20] + "-" + c.ID[20:32]
}

// nodeName is its name on its node, where those of all projects meet.
func (c *Container) nodeName() string { return "cloud-" + c.ID[:12] }

// seen tells whether the container is there for its project.
func (c *Container) seen() bool { return c.State != Removing }

func nameKey(project, name string) string { return project + " " + name }

func register(db *store.DB) *store.Collection[Container] {
	return store.Register(db, store.Schema[Container]{Service: "docker", Kind: "container", Version: 1, ID: func(c *Container) string { return c.ID },
		Unique: map[string]func(*Container) []string{"name": func(c *Container) []string {
			if !c.seen() {
				return nil
			}
			return []string{nameKey(c.ProjectID, c.Name)}
		}},
		Index: map[string]func(*Container) []string{
			"project": func(c *Container) []string { return []string{c.ProjectID} },
			"node":    func(c *Container) []string { return []string{c.Node} },
			"volume": func(c *Container) (ids []string) {
				for _, m := range c.Volumes {
					ids = append(ids, m.ID)
				}
				return ids
			},
		}})
}
