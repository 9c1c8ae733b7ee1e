package docker

import (
	"context"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// fakeVolumes is a volume service in memory.
type fakeVolumes struct {
	mu       sync.Mutex
	volumes  map[string]Volume
	attached map[string]Attachment
	fails    error
}

func (f *fakeVolumes) Of(project string) (out []Volume) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.volumes {
		if v.ProjectID == project {
			out = append(out, v)
		}
	}
	return out
}

func (f *fakeVolumes) Get(id string) (Volume, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.volumes[id]
	return v, ok
}

func (f *fakeVolumes) Make(_ context.Context, c *policy.Credentials, v Volume) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	v.ProjectID, v.Status = c.ProjectID, "available"
	f.volumes[v.ID] = v
	return nil
}

func (*fakeVolumes) Await(context.Context, string) error { return nil }

func (f *fakeVolumes) Remove(_ context.Context, _ *policy.Credentials, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.attached {
		if a.VolumeID == id {
			return errs.Invalidf("it is attached")
		}
	}
	delete(f.volumes, id)
	return nil
}

func (f *fakeVolumes) Attach(_ context.Context, a Attachment) (nodeapi.ContainerVolume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, o := range f.attached {
		if o.VolumeID == a.VolumeID && id != a.ID {
			return nodeapi.ContainerVolume{}, errs.Invalidf("status must be available")
		}
	}
	if f.fails != nil {
		return nodeapi.ContainerVolume{}, f.fails
	}
	f.attached[a.ID] = a
	return nodeapi.ContainerVolume{ID: a.VolumeID, Remote: &nodeapi.Remote{Addr: "127.0.0.1:1", User: a.ID}, ReadOnly: a.ReadOnly}, nil
}

func (f *fakeVolumes) Release(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attached, id)
	return nil
}

// count is how many volumes there are, and how many attachments.
func (f *fakeVolumes) count() (volumes, attachments int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.volumes), len(f.attached)
}

// elsewhere are rules of other services that the gateway asks for.
func elsewhere() (out []policy.Rule) {
	for _, r := range []string{"volume:get", "volume:get_all"} {
		out = append(out, policy.Rule{Name: r, Check: "role:reader and project_id:%(project_id)s"})
	}
	for _, r := range []string{"volume:create", "volume:delete", "volume:attachment_create", "create_network", "create_router", "delete_network"} {
		out = append(out, policy.Rule{Name: r, Check: "role:member and project_id:%(project_id)s"})
	}
	return append(out, policy.Rule{Name: "create_subnet", Check: "role:member and project_id:%(network:project_id)s"})
}
