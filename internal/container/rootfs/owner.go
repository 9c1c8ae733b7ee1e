package rootfs

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// nobody is whom a container sees where an owner stands for none of its users.
const nobody = 65534

// inside is whom the owner of a file stands for in the container.
func (r *Root) inside(uid, gid uint32) (int, int) {
	if r.ids == nil {
		return int(uid), int(gid)
	}
	u, _, err := r.ids.ToContainer(int(uid), r.rootGID())
	if err != nil {
		u = nobody
	}
	_, g, err := r.ids.ToContainer(r.rootUID(), int(gid))
	if err != nil {
		g = nobody
	}
	return u, g
}

func (r *Root) rootUID() int { uid, _ := r.ids.RootPair(); return uid }

func (r *Root) rootGID() int { _, gid := r.ids.RootPair(); return gid }

// outside is who stands for an owner of the container.
func (r *Root) outside(o Owner) (Owner, error) {
	if r.ids == nil {
		return o, nil
	}
	// Not ToHost, which takes the id of root for itself.
	for _, m := range r.ids.UIDMaps {
		if n := int64(o.UID); n >= m.ID && n < m.ID+m.Count {
			for _, g := range r.ids.GIDMaps {
				if k := int64(o.GID); k >= g.ID && k < g.ID+g.Count {
					return Owner{int(m.ParentID + n - m.ID), int(g.ParentID + k - g.ID)}, nil
				}
			}
		}
	}
	return o, BadArchive{fmt.Errorf("its owner %d:%d is no one in the user namespace of the container", o.UID, o.GID)}
}

// A capability of a file is worth something in the user namespace whose root it names. In
// archives, and in the host's, it names none.
const (
	capVersion  = 0xff000000
	capVersion2 = 0x02000000
	capVersion3 = 0x03000000
	capSize2    = 20
	capSize3    = 24
)

// capabilityInside is a capability without the root of the container.
func (r *Root) capabilityInside(v []byte) []byte {
	if r.ids == nil || len(v) != capSize3 || binary.LittleEndian.Uint32(v[capSize2:]) != uint32(r.rootUID()) {
		return v
	}
	out := append([]byte{}, v[:capSize2]...)
	binary.LittleEndian.PutUint32(out, binary.LittleEndian.Uint32(v)&^capVersion|capVersion2)
	return out
}

// capabilityOutside is one with it.
func (r *Root) capabilityOutside(v []byte) []byte {
	if r.ids == nil || len(v) != capSize2 || binary.LittleEndian.Uint32(v)&capVersion != capVersion2 {
		return v
	}
	out := binary.LittleEndian.AppendUint32(append([]byte{}, v...), uint32(r.rootUID()))
	binary.LittleEndian.PutUint32(out, binary.LittleEndian.Uint32(v)&^capVersion|capVersion3)
	return out
}

// give gives what was made in the container to its root.
func (r *Root) give(dir *os.File, name string) error {
	if r.ids == nil {
		return nil
	}
	return unix.Fchownat(int(dir.Fd()), name, r.rootUID(), r.rootGID(), unix.AT_SYMLINK_NOFOLLOW)
}
