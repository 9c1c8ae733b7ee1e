package nodestest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Storage plays a node's volumes: it keeps for each one a text that stands for its
// content, so that tests can follow it through snapshots, clones and backups.
type Storage struct {
	mu      sync.Mutex
	volumes map[string]*simVolume
	copies  map[string]*simVolume // in other pools, by volume
	foreign map[string]*simVolume // what is not the cloud's, by name
	backups map[string]simBackup
	// refuse is asked before each call with its name and the id that it is about.
	refuse func(call, id string) error
	pools  []nodeapi.Pool
}

type simVolume struct {
	sizeGiB   int
	content   string
	place     string // driver#pool
	key       string
	snapshots map[string]simSnapshot
}

type simSnapshot struct {
	sizeGiB int
	content string
}

type simBackup struct {
	content string
	parent  string
	key     string
	sizeGiB int
}

// Refuse makes calls fail: fn is asked before each with its name, such as
// "EnsureVolume", and the id of the volume or backup. Nil: none fails.
func (s *Storage) Refuse(fn func(call, id string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = fn
}

// SetPools says what Pools answers instead of one pool of 1000 GiB.
func (s *Storage) SetPools(p ...nodeapi.Pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = p
}

// Volumes lists the ids of the volumes here.
func (s *Storage) Volumes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.volumes))
}

// Snapshots lists the ids of a volume's snapshots here.
func (s *Storage) Snapshots(volume string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[volume]; v != nil {
		return slices.Sorted(maps.Keys(v.snapshots))
	}
	return nil
}

// Backups lists the ids of the backups here.
func (s *Storage) Backups() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.backups))
}

// Content is what stands for a volume's content, and its size in GiB.
func (s *Storage) Content(volume string) (string, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[volume]; v != nil {
		return v.content, v.sizeGiB
	}
	return "", 0
}

// Fill writes a volume, as a server would.
func (s *Storage) Fill(volume, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.volumes[volume]; v != nil {
		v.content = content
	}
}

// begin locks and asks whether the call may go on.
func (s *Storage) begin(call, id string) error {
	s.mu.Lock()
	if s.volumes == nil {
		s.volumes, s.backups = map[string]*simVolume{}, map[string]simBackup{}
	}
	if s.refuse != nil {
		return s.refuse(call, id)
	}
	return nil
}

func (s *Storage) volume(id string) (*simVolume, error) {
	if v := s.volumes[id]; v != nil {
		return v, nil
	}
	return nil, errs.NotFoundf("volume %s is not here", id)
}

// Pools implements nodes.Storage.
func (s *Storage) Pools(context.Context) ([]nodeapi.Pool, error) {
	defer s.mu.Unlock()
	if err := s.begin("Pools", ""); err != nil {
		return nil, err
	}
	if s.pools != nil {
		return s.pools, nil
	}
	used := 0.0
	for _, v := range s.volumes {
		used += float64(v.sizeGiB)
	}
	return []nodeapi.Pool{{Driver: "local", Name: "volumes", TotalGiB: 1000, FreeGiB: 1000 - used, Provisioned: used, Thin: true, Multiattach: true, Encryption: true}}, nil
}

// EnsureVolume implements nodes.Storage.
func (s *Storage) EnsureVolume(_ context.Context, v nodeapi.Volume) error {
	defer s.mu.Unlock()
	if err := s.begin("EnsureVolume", v.ID); err != nil || s.volumes[v.ID] != nil {
		return err
	}
	made := &simVolume{sizeGiB: v.SizeGiB, place: place(v.VolumeRef), key: string(v.Key), snapshots: map[string]simSnapshot{}}
	switch {
	case v.Source.ImageID != "":
		made.content = "image " + v.Source.ImageID
	case v.Source.Volume != nil:
		from, err := s.volume(v.Source.Volume.ID)
		if err != nil {
			return err
		}
		made.content = from.content
		if id := v.Source.SnapshotID; id != "" {
			snap, ok := from.snapshots[id]
			if !ok {
				return errs.NotFoundf("snapshot %s is not here", id)
			}
			made.content = snap.content
		}
	}
	s.volumes[v.ID] = made
	return nil
}

// DeleteVolume implements nodes.Storage.
func (s *Storage) DeleteVolume(_ context.Context, v nodeapi.VolumeRef) error {
	defer s.mu.Unlock()
	if err := s.begin("DeleteVolume", v.ID); err != nil {
		return err
	}
	s.remove(v)
	return nil
}

// ExtendVolume implements nodes.Storage.
func (s *Storage) ExtendVolume(_ context.Context, ref nodeapi.VolumeRef, sizeGiB int) error {
	defer s.mu.Unlock()
	if err := s.begin("ExtendVolume", ref.ID); err != nil {
		return err
	}
	v, err := s.volume(ref.ID)
	if err == nil {
		v.sizeGiB = max(v.sizeGiB, sizeGiB)
	}
	return err
}

// GrowAttached implements nodes.Storage.
func (s *Storage) GrowAttached(_ context.Context, volume string, _ int) error {
	defer s.mu.Unlock()
	return s.begin("GrowAttached", volume)
}

// EnsureSnapshot implements nodes.Storage.
func (s *Storage) EnsureSnapshot(_ context.Context, ref nodeapi.VolumeRef, id string) error {
	defer s.mu.Unlock()
	if err := s.begin("EnsureSnapshot", id); err != nil {
		return err
	}
	v, err := s.volume(ref.ID)
	if err != nil {
		return err
	}
	if _, ok := v.snapshots[id]; !ok {
		v.snapshots[id] = simSnapshot{v.sizeGiB, v.content}
	}
	return nil
}

// EnsureSnapshots implements nodes.Storage: nothing is filled while it takes them.
func (s *Storage) EnsureSnapshots(_ context.Context, list []nodeapi.VolumeSnapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := true
	for _, x := range list {
		v, err := s.volume(x.Volume.ID)
		if err != nil {
			return err
		}
		_, there := v.snapshots[x.Name]
		all = all && there
	}
	for _, x := range list {
		if s.refuse != nil {
			if err := s.refuse("EnsureSnapshots", x.Name); err != nil {
				return err
			}
		}
		if v := s.volumes[x.Volume.ID]; !all {
			v.snapshots[x.Name] = simSnapshot{v.sizeGiB, v.content}
		}
	}
	return nil
}

// DeleteSnapshot implements nodes.Storage.
func (s *Storage) DeleteSnapshot(_ context.Context, ref nodeapi.VolumeRef, id string) error {
	defer s.mu.Unlock()
	if err := s.begin("DeleteSnapshot", id); err != nil {
		return err
	}
	if v := s.volumes[ref.ID]; v != nil {
		delete(v.snapshots, id)
	}
	return nil
}

// RevertVolume implements nodes.Storage.
func (s *Storage) RevertVolume(_ context.Context, ref nodeapi.VolumeRef, id string) error {
	defer s.mu.Unlock()
	if err := s.begin("RevertVolume", ref.ID); err != nil {
		return err
	}
	v, err := s.volume(ref.ID)
	if err != nil {
		return err
	}
	snap, ok := v.snapshots[id]
	if !ok {
		return errs.NotFoundf("snapshot %s is not here", id)
	}
	v.content, v.sizeGiB = snap.content, snap.sizeGiB
	return nil
}

// ReadVolume implements nodes.Storage.
func (s *Storage) ReadVolume(_ context.Context, ref nodeapi.VolumeRef, snapshot, _ string) (io.ReadCloser, error) {
	defer s.mu.Unlock()
	if err := s.begin("ReadVolume", ref.ID); err != nil {
		return nil, err
	}
	v, err := s.volume(ref.ID)
	if err != nil {
		return nil, err
	}
	text := v.content
	if snapshot != "" {
		text = v.snapshots[snapshot].content
	}
	return io.NopCloser(bytes.NewReader([]byte(text))), nil
}

// MakeBackup implements nodes.Storage.
func (s *Storage) MakeBackup(_ context.Context, b nodeapi.Backup) (nodeapi.BackupResult, error) {
	defer s.mu.Unlock()
	if err := s.begin("MakeBackup", b.ID); err != nil {
		return nodeapi.BackupResult{}, err
	}
	v, err := s.volume(b.Volume.ID)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	text := v.content
	if b.SnapshotID != "" {
		text = v.snapshots[b.SnapshotID].content
	}
	s.backups[b.ID] = simBackup{text, b.Parent, string(b.Volume.Key), v.sizeGiB}
	return nodeapi.BackupResult{Bytes: int64(len(text)), Objects: 1}, nil
}

// Restore implements nodes.Storage.
func (s *Storage) Restore(_ context.Context, backup string, key []byte, ref nodeapi.VolumeRef) error {
	defer s.mu.Unlock()
	if err := s.begin("Restore", backup); err != nil {
		return err
	}
	v, err := s.volume(ref.ID)
	if err != nil {
		return err
	}
	b, ok := s.backups[backup]
	if !ok {
		return errs.NotFoundf("backup %s is not here", backup)
	}
	if b.key != string(key) {
		return errs.Invalidf("backup %s has another key", backup)
	}
	v.content = b.content
	return nil
}

// DeleteBackup implements nodes.Storage.
func (s *Storage) DeleteBackup(_ context.Context, backup string) error {
	defer s.mu.Unlock()
	if err := s.begin("DeleteBackup", backup); err != nil {
		return err
	}
	delete(s.backups, backup)
	return nil
}

// simRecord is an exported record, which nothing seals here.
type simRecord struct {
	Backup string
	Note   []byte
}

// ExportBackup implements nodes.Storage.
func (s *Storage) ExportBackup(_ context.Context, backup string, note []byte) (string, error) {
	defer s.mu.Unlock()
	if err := s.begin("ExportBackup", backup); err != nil {
		return "", err
	}
	if _, ok := s.backups[backup]; !ok {
		return "", errs.NotFoundf("backup %s is not here", backup)
	}
	raw, err := json.Marshal(simRecord{backup, note})
	return string(raw), err
}

// record finds what an exported record is about.
func (s *Storage) record(text, as string) (simRecord, simBackup, error) {
	var r simRecord
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, simBackup{}, errs.Invalidf("that is no record of this vault")
	}
	b, ok := s.backups[r.Backup]
	if !ok {
		return r, b, errs.NotFoundf("backup %s is not here", r.Backup)
	}
	if have, ok := s.backups[as]; ok && have != b {
		return r, b, errs.Conflictf("backup %s is another one", as)
	}
	return r, b, nil
}

// ReadRecord implements nodes.Storage.
func (s *Storage) ReadRecord(_ context.Context, text, as string) (nodeapi.BackupRecord, error) {
	defer s.mu.Unlock()
	if err := s.begin("ReadRecord", as); err != nil {
		return nodeapi.BackupRecord{}, err
	}
	r, b, err := s.record(text, as)
	return nodeapi.BackupRecord{Note: r.Note, Size: int64(b.sizeGiB) << 30}, err
}

// ImportBackup implements nodes.Storage.
func (s *Storage) ImportBackup(_ context.Context, backup, text string) (nodeapi.BackupResult, error) {
	defer s.mu.Unlock()
	if err := s.begin("ImportBackup", backup); err != nil {
		return nodeapi.BackupResult{}, err
	}
	_, b, err := s.record(text, backup)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	s.backups[backup] = b
	return nodeapi.BackupResult{Objects: 1}, nil
}
