package nodestest

import (
	"context"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// place is where a volume is, in words.
func place(v nodeapi.VolumeRef) string { return v.Driver + "#" + v.Pool }

// Foreign puts something that is not the cloud's into the node's pools.
func (s *Storage) Foreign(name, content string, gib int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.foreign == nil {
		s.foreign = map[string]*simVolume{}
	}
	s.foreign[name] = &simVolume{sizeGiB: gib, content: content, snapshots: map[string]simSnapshot{}}
}

// Foreigners lists what is not the cloud's.
func (s *Storage) Foreigners() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.foreign))
}

// Place tells in which driver's pool the volume is, and the key that opens it.
func (s *Storage) Place(volume string) (at, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[volume]; v != nil {
		return v.place, v.key
	}
	return "", ""
}

// Copies counts the volumes, with copies that were not finished or not removed.
func (s *Storage) Copies() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.volumes) + len(s.copies)
}

// MoveVolume implements nodes.Storage. The copy is kept beside the volume until
// one of the two is deleted.
func (s *Storage) MoveVolume(_ context.Context, from, to nodeapi.VolumeRef) error {
	defer s.mu.Unlock()
	if err := s.begin("MoveVolume", from.ID); err != nil {
		return err
	}
	v, err := s.volume(from.ID)
	if err != nil {
		return err
	}
	if place(from) == place(to) {
		v.key = string(to.Key)
		return nil
	}
	made := *v
	made.place, made.key = place(to), string(to.Key)
	if s.copies == nil {
		s.copies = map[string]*simVolume{}
	}
	s.copies[from.ID] = &made
	return nil
}

// remove deletes one of a volume's two places, or the only one.
func (s *Storage) remove(ref nodeapi.VolumeRef) {
	v, c := s.volumes[ref.ID], s.copies[ref.ID]
	switch {
	case c == nil && (v == nil || v.place == "" || v.place == place(ref)):
		delete(s.volumes, ref.ID)
	case c == nil:
	case c.place == place(ref):
		delete(s.copies, ref.ID)
	default:
		s.volumes[ref.ID] = c
		delete(s.copies, ref.ID)
	}
}

// ForeignVolumes implements nodes.Storage.
func (s *Storage) ForeignVolumes(context.Context, string, string) ([]nodeapi.Foreign, error) {
	defer s.mu.Unlock()
	if err := s.begin("ForeignVolumes", ""); err != nil {
		return nil, err
	}
	var out []nodeapi.Foreign
	for _, name := range slices.Sorted(maps.Keys(s.foreign)) {
		f := nodeapi.Foreign{Name: name, Bytes: int64(s.foreign[name].sizeGiB) << 30, Format: "qcow2"}
		if f.Bytes == 0 {
			f.Unfit = "the file is empty"
		}
		out = append(out, f)
	}
	return out, nil
}

// ForeignSnapshots implements nodes.Storage.
func (s *Storage) ForeignSnapshots(_ context.Context, ref nodeapi.VolumeRef) ([]nodeapi.Foreign, error) {
	defer s.mu.Unlock()
	if err := s.begin("ForeignSnapshots", ref.ID); err != nil {
		return nil, err
	}
	v, err := s.volume(ref.ID)
	if err != nil {
		return nil, err
	}
	var out []nodeapi.Foreign
	for _, name := range slices.Sorted(maps.Keys(v.snapshots)) {
		out = append(out, nodeapi.Foreign{Name: name, Bytes: int64(v.snapshots[name].sizeGiB) << 30})
	}
	return out, nil
}

// AdoptVolume implements nodes.Storage.
func (s *Storage) AdoptVolume(_ context.Context, ref nodeapi.VolumeRef, name string) error {
	defer s.mu.Unlock()
	if err := s.begin("AdoptVolume", ref.ID); err != nil || s.volumes[ref.ID] != nil {
		return err
	}
	f := s.foreign[name]
	if f == nil {
		return errs.NotFoundf("nothing is called %s here", name)
	}
	f.place = place(ref)
	s.volumes[ref.ID] = f
	delete(s.foreign, name)
	return nil
}

// ReleaseVolume implements nodes.Storage.
func (s *Storage) ReleaseVolume(_ context.Context, ref nodeapi.VolumeRef, name string) error {
	defer s.mu.Unlock()
	if err := s.begin("ReleaseVolume", ref.ID); err != nil {
		return err
	}
	if v := s.volumes[ref.ID]; v != nil {
		if s.foreign == nil {
			s.foreign = map[string]*simVolume{}
		}
		s.foreign[name] = v
		delete(s.volumes, ref.ID)
	}
	return nil
}
