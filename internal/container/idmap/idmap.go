// Package idmap is whom the users of containers in a user namespace are on the host: what
// dockerd calls userns-remap.
//
// An image's layers are on the disk as they are in the image, and appear shifted by
// idmapped mounts. What a container writes, and volumes, are on the disk with the ids of
// the host that stand for the container's.
package idmap

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/strata-cloud/strata/internal/netns"
)

// Map says which ids of the host stand for those of a container. Root is always among them.
type Map struct{ user.IdentityMapping }

// Owner is for namespaces of a container.
func (m *Map) Owner() *netns.Owner {
	if m == nil {
		return nil
	}
	list := func(from []user.IDMap) (out []syscall.SysProcIDMap) {
		for _, i := range from {
			out = append(out, syscall.SysProcIDMap{ContainerID: int(i.ID), HostID: int(i.ParentID), Size: int(i.Count)})
		}
		return out
	}
	return &netns.Owner{UIDs: list(m.UIDMaps), GIDs: list(m.GIDMaps)}
}

// Spec is how runc's configuration has it.
func (m *Map) Spec() (uids, gids []specs.LinuxIDMapping) {
	list := func(from []user.IDMap) (out []specs.LinuxIDMapping) {
		for _, i := range from {
			out = append(out, specs.LinuxIDMapping{ContainerID: uint32(i.ID), HostID: uint32(i.ParentID), Size: uint32(i.Count)})
		}
		return out
	}
	return list(m.UIDMaps), list(m.GIDMaps)
}

// Snapshot has the layers below a snapshot appear shifted.
func (m *Map) Snapshot() (opts []snapshots.Opt) {
	if m == nil {
		return nil
	}
	return append(opts, client.WithUserNSRemapperLabels(m.Spec()))
}

// Shifted are containerd's options of a mount that shows the host's ids in the place of
// the container's.
func (m *Map) Shifted() []string {
	return options(m, func(i user.IDMap) (from, to int64) { return i.ID, i.ParentID })
}

// Unshifted are those of one that shows the container's in the place of the host's.
func (m *Map) Unshifted() []string {
	return options(m, func(i user.IDMap) (from, to int64) { return i.ParentID, i.ID })
}

func options(m *Map, turn func(user.IDMap) (from, to int64)) []string {
	list := func(ids []user.IDMap) string {
		var out []string
		for _, i := range ids {
			from, to := turn(i)
			out = append(out, fmt.Sprintf("%d:%d:%d", from, to, i.Count))
		}
		return strings.Join(out, ",")
	}
	return []string{"uidmap=" + list(m.UIDMaps), "gidmap=" + list(m.GIDMaps)}
}
