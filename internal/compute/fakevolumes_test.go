package compute

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/store"
)

// fakeVolumes is a volume service that keeps its books and no data.
type fakeVolumes struct {
	db        *store.DB
	mu        sync.Mutex
	volumes   map[string]*Volume
	snapshots map[string]NewSnapshot
	claims    map[string]*fakeClaim
}

type fakeClaim struct {
	NewAttachment
	state string
	hosts []string // that reach the volume
}

func newVolumes(db *store.DB) *fakeVolumes {
	return &fakeVolumes{db: db, volumes: map[string]*Volume{}, snapshots: map[string]NewSnapshot{}, claims: map[string]*fakeClaim{}}
}

// add makes a volume as a user would.
func (f *fakeVolumes) add(project string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := uuid.NewString()
	f.volumes[id] = &Volume{ID: id, ProjectID: project, Status: "available", SizeGiB: 1, Bootable: true}
	return id
}

func (f *fakeVolumes) status(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.volumes[id]; v != nil {
		return v.Status
	}
	return "absent"
}

// claimed lists the claims that there are.
func (f *fakeVolumes) claimed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.claims))
}

func (f *fakeVolumes) Volume(_ context.Context, c *policy.Credentials, id string) (*Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.volumes[id]
	if v == nil || v.ProjectID != c.ProjectID && !c.Admin() {
		return nil, errs.NotFoundf("Volume %s could not be found.", id)
	}
	out := *v
	return &out, nil
}

func (f *fakeVolumes) Snapshot(_ context.Context, _ *policy.Credentials, id string) (*VolumeSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.snapshots[id]
	if !ok {
		return nil, errs.NotFoundf("Snapshot %s could not be found.", id)
	}
	return &VolumeSnapshot{ID: s.ID, VolumeID: s.VolumeID, Status: "available", SizeGiB: 1}, nil
}

func (f *fakeVolumes) EnsureVolume(_ context.Context, c *policy.Credentials, n NewVolume) (*Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.Type == "none left" {
		return nil, errs.Forbiddenf("Quota exceeded")
	}
	if f.volumes[n.ID] == nil {
		f.volumes[n.ID] = &Volume{ID: n.ID, ProjectID: c.ProjectID, Status: "available", SizeGiB: n.SizeGiB, Bootable: n.Image != ""}
	}
	return f.volumes[n.ID], nil
}

func (f *fakeVolumes) AwaitVolume(context.Context, string) error { return nil }

func (f *fakeVolumes) DeleteVolume(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.volumes[id]; v != nil && v.Status != "available" {
		return errs.Invalidf("volume %s is %s", id, v.Status)
	}
	delete(f.volumes, id)
	return nil
}

func (f *fakeVolumes) EnsureSnapshot(_ context.Context, _ *policy.Credentials, s NewSnapshot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots[s.ID] = s
	return nil
}

func (f *fakeVolumes) AwaitSnapshot(context.Context, string) error { return nil }

func (f *fakeVolumes) Reserve(_ context.Context, _ *policy.Credentials, a NewAttachment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.claims[a.ID] != nil {
		return nil
	}
	v := f.volumes[a.VolumeID]
	if v == nil {
		return errs.NotFoundf("no volume %s", a.VolumeID)
	}
	if v.Status != "available" {
		return errs.Invalidf("volume %s is %s", v.ID, v.Status)
	}
	v.Status = "reserved"
	f.claims[a.ID] = &fakeClaim{NewAttachment: a, state: "reserved"}
	return nil
}

func (f *fakeVolumes) set(id, claim, volume string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.claims[id]
	if c == nil {
		return errs.NotFoundf("no attachment %s", id)
	}
	c.state, f.volumes[c.VolumeID].Status = claim, volume
	return nil
}

func (f *fakeVolumes) Connect(_ context.Context, id, host, _ string) (*nodeapi.VolumeSource, *nodeapi.IOLimits, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.claims[id]
	if c == nil {
		return nil, nil, errs.NotFoundf("no attachment %s", id)
	}
	c.hosts = []string{host}
	return f.source(c, host), nil, nil
}

// source is a volume of the node "keeper", which others than itself reach.
func (f *fakeVolumes) source(c *fakeClaim, host string) *nodeapi.VolumeSource {
	return &nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: c.VolumeID, Driver: "local"}, Node: "keeper", Remote: &nodeapi.Remote{Addr: "192.0.2.1:21000", User: host, PSK: []byte(host)}}
}

func (f *fakeVolumes) Admit(_ context.Context, id, host string) (*nodeapi.VolumeSource, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.claims[id]
	if c == nil {
		return nil, errs.NotFoundf("no attachment %s", id)
	}
	if !slices.Contains(c.hosts, host) {
		c.hosts = append(c.hosts, host)
	}
	return f.source(c, host), nil
}

// reaching lists the hosts that reach a volume by a claim.
func (f *fakeVolumes) reaching(id string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.claims[id]; c != nil {
		return c.hosts
	}
	return nil
}

func (f *fakeVolumes) Complete(_ context.Context, id string) error {
	return f.set(id, "attached", "in-use")
}

func (f *fakeVolumes) Detaching(_ context.Context, _ *policy.Credentials, id string) error {
	return f.set(id, "detaching", "detaching")
}

func (f *fakeVolumes) Keep(_ context.Context, id string) error {
	return f.set(id, "attached", "in-use")
}

func (f *fakeVolumes) Release(ctx context.Context, id string, also func(*store.Tx) error) error {
	f.free(id)
	if also == nil {
		return nil
	}
	return f.db.Txn(ctx, also)
}

func (f *fakeVolumes) free(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.claims[id]; c != nil {
		delete(f.claims, id)
		if v := f.volumes[c.VolumeID]; v != nil {
			v.Status = "available"
		}
	}
}
