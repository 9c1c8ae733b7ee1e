package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// Mount is a volume of block storage that a container has. Its attachment is one for
// all containers of a node: they share the file system.
type Mount struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	ReadOnly   bool   `json:"read_only,omitempty"`  // the volume, not this container's mount alone
	Attachment string `json:"attachment,omitempty"` // "": not yet, or no more
}

// mountWish is a volume that a container asks for by its name.
type mountWish struct {
	ref      string
	readOnly bool
	options  map[string]string
	labels   map[string]string
	set      func(id string) // names the volume to the node
}

// mountWishes reads the volumes with names. Others are the node's.
func mountWishes(req *container.CreateRequest) (out []mountWish) {
	h := req.HostConfig
	for i, b := range h.Binds {
		ref, rest, ok := strings.Cut(b, ":")
		if !ok || ref == "" {
			continue
		}
		_, mode, _ := strings.Cut(rest, ":")
		out = append(out, mountWish{ref: ref, readOnly: slices.Contains(strings.Split(mode, ","), "ro"), set: func(id string) { h.Binds[i] = id + ":" + rest }})
	}
	for i := range h.Mounts {
		m := &h.Mounts[i]
		if m.Type != mount.TypeVolume || m.Source == "" {
			continue
		}
		w := mountWish{ref: m.Source, readOnly: m.ReadOnly, set: func(id string) { m.Source = id }}
		if o := m.VolumeOptions; o != nil {
			w.labels = o.Labels
			if o.DriverConfig != nil {
				w.options = o.DriverConfig.Options
			}
			m.VolumeOptions = &mount.VolumeOptions{NoCopy: o.NoCopy}
		}
		out = append(out, w)
	}
	return out
}

// mounts finds the volumes that a container asks for, and makes those that are not
// there, as engines do. The request then has their ids.
func (s *Service) mounts(r *request, req *container.CreateRequest) (out []Mount, err error) {
	for _, w := range mountWishes(req) {
		if err := s.mayElsewhere(r.who, "volume:attachment_create"); err != nil {
			return nil, err
		}
		v, err := s.ensureVolume(r, NewVolume{Name: w.ref, Options: w.options, Labels: w.labels})
		if errs.Is(err, errs.NotFound) { // which clients take for a missing image
			err = errs.Invalidf("%s", err)
		}
		if err != nil {
			return nil, err
		}
		w.set(v.ID)
		ro := v.ReadOnly || v.Multiattach && w.readOnly
		if i := slices.IndexFunc(out, func(m Mount) bool { return m.ID == v.ID }); i >= 0 {
			out[i].ReadOnly = out[i].ReadOnly && ro
			continue
		}
		out = append(out, Mount{ID: v.ID, Name: w.ref, ReadOnly: ro})
	}
	return out, nil
}

// near are the nodes that a container is to be on for its volumes: on one of must, if
// there is any, and rather on one of keep.
func (s *Service) near(ctx context.Context, c *Container) (must, keep []string) {
	for _, m := range c.Volumes {
		for _, o := range s.containers.By("volume", m.ID) {
			if o.ID == c.ID {
				continue
			}
			there, err := s.remains(ctx, o)
			if err != nil {
				s.Log.Debug("a container that may be gone", "container", o.ID, "err", err)
			}
			if there && o.seen() && o.Node != "" && !(m.ReadOnly && s.shared(m.ID)) && !slices.Contains(must, o.Node) {
				must = append(must, o.Node)
			}
		}
		if v, ok := s.Volumes.Get(m.ID); ok {
			keep = append(keep, v.Node)
		}
	}
	return must, keep
}

// shared tells whether several nodes may have the volume at one time.
func (s *Service) shared(id string) bool {
	v, ok := s.Volumes.Get(id)
	return ok && v.Multiattach
}

// hold takes the container's volumes for its node: with those of its project's
// containers that have them there, or anew.
func (s *Service) hold(ctx context.Context, c *Container) error {
	if len(c.Volumes) == 0 {
		return nil
	}
	return s.ledger.Do(ctx, func(tx *store.Tx) error {
		held := slices.Clone(c.Volumes)
		for i := range held {
			if err := s.join(tx, c, &held[i]); err != nil {
				return err
			}
		}
		_, err := s.containers.TxUpdate(tx, c.ID, func(x *Container) error { x.Volumes = held; return nil })
		c.Volumes = held
		return err
	})
}

// join finds the attachment of a volume on a container's node.
func (s *Service) join(tx *store.Tx, c *Container, m *Mount) error {
	if m.Attachment != "" {
		return nil
	}
	for _, o := range s.containers.TxBy(tx, "volume", m.ID) {
		i := slices.IndexFunc(o.Volumes, func(x Mount) bool { return x.ID == m.ID && x.Attachment != "" })
		if o.ID == c.ID || i < 0 {
			continue
		}
		switch same := o.Node == c.Node; {
		case same && o.Volumes[i].ReadOnly == m.ReadOnly:
			m.Attachment = o.Volumes[i].Attachment
			return nil
		case m.ReadOnly && o.Volumes[i].ReadOnly && s.shared(m.ID):
		case same:
			return errs.Conflictf("the volume %s is mounted read-only by container %s, and is not both", m.Name, o.Name)
		default:
			return errs.Conflictf("the volume %s is in use by container %s on another node", m.Name, o.Name)
		}
	}
	m.Attachment = uuid.NewString()
	return nil
}

// attach has the container's node reach its volumes.
func (s *Service) attach(ctx context.Context, c *Container) (out []nodeapi.ContainerVolume, err error) {
	for _, m := range c.Volumes {
		if err := s.Volumes.Await(ctx, m.ID); err != nil {
			return nil, fmt.Errorf("the volume %s: %w", m.Name, err)
		}
		v, err := s.Volumes.Attach(ctx, Attachment{ID: m.Attachment, VolumeID: m.ID, Host: c.Node, ReadOnly: m.ReadOnly})
		if errs.Is(err, errs.Invalid) { // its state, not the request
			err = errs.Conflictf("the volume %s cannot be mounted: %s", m.Name, err)
		}
		if err != nil {
			return nil, err
		}
		v.Name = m.Name
		out = append(out, v)
	}
	return out, nil
}

// letGo detaches what the container was the last to have. What it lets go of is
// written down first, so that nobody joins it.
func (s *Service) letGo(ctx context.Context, c *Container) error {
	if len(c.Volumes) == 0 {
		return nil
	}
	var last []string
	err := s.ledger.Do(ctx, func(tx *store.Tx) error {
		last = nil
		_, err := s.containers.TxUpdate(tx, c.ID, func(x *Container) error {
			x.Volumes, x.Leaving = slices.Clone(x.Volumes), slices.Clone(x.Leaving)
			for i, m := range x.Volumes {
				if m.Attachment != "" && !s.heldByOthers(tx, x, m) {
					x.Leaving = append(x.Leaving, m.Attachment)
				}
				x.Volumes[i].Attachment = ""
			}
			last = x.Leaving
			return nil
		})
		return err
	})
	for _, id := range last {
		if err == nil {
			err = s.Volumes.Release(ctx, id)
		}
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func (s *Service) heldByOthers(tx *store.Tx, c *Container, m Mount) bool {
	return slices.ContainsFunc(s.containers.TxBy(tx, "volume", m.ID), func(o *Container) bool {
		return o.ID != c.ID && slices.ContainsFunc(o.Volumes, func(x Mount) bool { return x.Attachment == m.Attachment })
	})
}

// mountNames gives mounts that a node tells of the names that the project knows. What
// is the node's own has none.
func (c *Container) mountNames(list any) {
	points, _ := list.([]any)
	for _, p := range points {
		v, _ := p.(map[string]any)
		if v == nil || v["Type"] != string(mount.TypeVolume) {
			continue
		}
		id, _ := v["Name"].(string)
		v["Name"], v["Source"] = "", ""
		for _, m := range c.Volumes {
			if m.ID == id {
				v["Name"], v["Driver"] = m.Name, volumeDriver
			}
		}
	}
}

// asAsked gives a node's copy of the request the names that it was made with.
func (c *Container) asAsked(h map[string]any) {
	binds, _ := h["Binds"].([]any)
	for i, b := range binds {
		text, _ := b.(string)
		for _, m := range c.Volumes {
			if rest, ok := strings.CutPrefix(text, m.ID+":"); ok {
				binds[i] = m.Name + ":" + rest
			}
		}
	}
	mounts, _ := h["Mounts"].([]any)
	for _, x := range mounts {
		v, _ := x.(map[string]any)
		for _, m := range c.Volumes {
			if v != nil && v["Source"] == m.ID {
				v["Source"] = m.Name
			}
		}
	}
}

// sizeOf reads the option size, in GiB.
func sizeOf(text string) (int, error) {
	digits := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "IB"), "B")
	n, err := strconv.Atoi(strings.TrimSuffix(digits, "G"))
	if err != nil || n < 1 {
		return 0, errs.Invalidf("invalid size %q of a volume: it is a number of GiB", text)
	}
	return n, nil
}

// inUse tells which of the project's containers have a volume. One that its engine has
// removed has it no more.
func (s *Service) inUse(ctx context.Context, project, id string) (names []string, err error) {
	for _, c := range s.containers.By("volume", id) {
		if c.ProjectID != project || !c.seen() {
			continue
		}
		there, err := s.remains(ctx, c)
		if err != nil {
			return nil, err
		}
		if there {
			names = append(names, c.ID)
		}
	}
	return names, nil
}
