package container

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// identities remembers whom users and groups are in images. To find out takes a mount of
// the files and its end, and every container of an image has the same answer as long as
// it has changed no file.
type identities struct {
	mu    sync.Mutex
	known map[string]specs.User // by image and what was asked
}

// rememberedUsers is how many answers there are at most.
const rememberedUsers = 1024

// users gives a container's process its user and groups.
func (d *Daemon) users(r Record) oci.SpecOpts {
	return func(ctx context.Context, cl oci.Client, c *containers.Container, s *oci.Spec) error {
		find := users(r.Config.User, r.HostConfig.GroupAdd)
		mounts, err := d.engine.Client.SnapshotService(c.Snapshotter).Mounts(ctx, c.SnapshotKey)
		if err != nil {
			return err
		}
		if !untouched(mounts) {
			return find(ctx, cl, c, s)
		}
		key := strings.Join(append([]string{r.Image, r.Config.User}, r.HostConfig.GroupAdd...), "\x00")
		if u, ok := d.identities.get(key); ok {
			s.Process.User = u
			return nil
		}
		if err := find(ctx, cl, c, s); err != nil {
			return err
		}
		d.identities.put(key, s.Process.User)
		return nil
	}
}

func (i *identities) get(key string) (specs.User, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	u, ok := i.known[key]
	return u, ok
}

func (i *identities) put(key string, u specs.User) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known == nil || len(i.known) >= rememberedUsers {
		i.known = map[string]specs.User{}
	}
	i.known[key] = u
}

// untouched tells whether files are their image's: the container's own layer is empty.
func untouched(mounts []mount.Mount) bool {
	upper := upperDir(mounts)
	if upper == "" {
		return false
	}
	entries, err := os.ReadDir(upper)
	return err == nil && len(entries) == 0
}
