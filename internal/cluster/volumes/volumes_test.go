package volumes

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/strata-cloud/strata/internal/errs"
)

// memory is a volume service that does everything at once.
type memory struct {
	volumes   map[string]*Volume
	snapshots map[string]*Snapshot
	fail      error // of the next Make
	spoil     bool  // the next one that is made fails later
}

func (m *memory) Volume(_ *Scope, id string) (*Volume, error) {
	v, ok := m.volumes[id]
	if !ok {
		return nil, errs.NotFoundf("Volume %s could not be found.", id)
	}
	out := *v
	return &out, nil
}

func (m *memory) Volumes(*Scope) (out []Volume) {
	for _, v := range m.volumes {
		out = append(out, *v)
	}
	return out
}

func (m *memory) Make(_ context.Context, _ *Scope, v *Volume) error {
	if err := m.fail; err != nil {
		m.fail = nil
		return err
	}
	made := *v
	made.State = Ready
	if m.spoil {
		made.State, m.spoil = Failed, false
	}
	m.volumes[v.ID] = &made
	return nil
}

func (m *memory) Await(context.Context, *Scope, string) error { return nil }

func (m *memory) Remove(_ context.Context, _ *Scope, id string) error {
	delete(m.volumes, id)
	return nil
}

func (m *memory) Grow(_ context.Context, _ *Scope, id string, gib int) error {
	m.volumes[id].SizeGiB = gib
	return nil
}

func (m *memory) Attach(_ context.Context, _ *Scope, a Attachment) error {
	v := m.volumes[a.Volume]
	v.Attachments = append(slices.DeleteFunc(v.Attachments, func(x Attachment) bool { return x.ID == a.ID }), a)
	return nil
}

func (m *memory) Detach(_ context.Context, id string) error {
	for _, v := range m.volumes {
		v.Attachments = slices.DeleteFunc(v.Attachments, func(x Attachment) bool { return x.ID == id })
	}
	return nil
}

func (m *memory) Snapshot(_ *Scope, id string) (*Snapshot, error) {
	x, ok := m.snapshots[id]
	if !ok {
		return nil, errs.NotFoundf("Snapshot %s could not be found.", id)
	}
	return x, nil
}

func (m *memory) Snapshots(*Scope) (out []Snapshot) {
	for _, x := range m.snapshots {
		out = append(out, *x)
	}
	return out
}

func (m *memory) MakeSnapshot(_ context.Context, _ *Scope, x *Snapshot) error {
	made := *x
	made.State, made.SizeGiB = Ready, m.volumes[x.Volume].SizeGiB
	m.snapshots[x.ID] = &made
	return nil
}

func (m *memory) AwaitSnapshot(context.Context, *Scope, string) error { return nil }

func (m *memory) RemoveSnapshot(_ context.Context, _ *Scope, id string) error {
	delete(m.snapshots, id)
	return nil
}

// caller calls as Kubernetes' controllers do.
type caller struct {
	*testing.T
	*memory
	scope *Scope
}

func newCaller(t *testing.T) *caller {
	return &caller{t, &memory{volumes: map[string]*Volume{}, snapshots: map[string]*Snapshot{}},
		&Scope{Cluster: "c", Project: "p", Server: func(node string) (string, error) {
			switch node {
			case "stranger":
				return "", errs.NotFoundf("Node %s does not work for the cluster.", node)
			case "guest":
				return "server-1", nil
			}
			return "", nil
		}}}
}

// call gives the code; out, unless nil, takes the answer.
func (c *caller) call(method string, in, out proto.Message) codes.Code {
	c.Helper()
	raw, err := proto.Marshal(in)
	if err != nil {
		c.Fatal(err)
	}
	a := Call(c.Context(), c.memory, c.scope, "/csi.v1.Controller/"+method, raw)
	if a.Code == 0 && out != nil {
		if err := proto.Unmarshal(a.Body, out); err != nil {
			c.Fatal(err)
		}
	}
	if a.Code != 0 && a.Message == "" {
		c.Errorf("%s fails without a word", method)
	}
	return codes.Code(a.Code)
}

func use(mode csi.VolumeCapability_AccessMode_Mode, fs string) *csi.VolumeCapability {
	return &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}, AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs}}}
}

const once = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER

func (c *caller) create(name string, change func(*csi.CreateVolumeRequest)) (codes.Code, *csi.Volume) {
	c.Helper()
	r := &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{use(once, "")}, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * gib}}
	if change != nil {
		change(r)
	}
	var out csi.CreateVolumeResponse
	code := c.call("CreateVolume", r, &out)
	return code, out.Volume
}

func TestCreate(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
		size   int64 // GiB
	}{
		"as asked":   {size: 2},
		"rounded up": {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 2*gib + 1 }, size: 3},
		"no size":    {change: func(r *csi.CreateVolumeRequest) { r.CapacityRange = nil }, size: 1},
		"between": {change: func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: gib + 1, LimitBytes: gib + 2}
		}, code: codes.OutOfRange},
		"no name": {change: func(r *csi.CreateVolumeRequest) { r.Name = "" }, code: codes.InvalidArgument},
		"no use":  {change: func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }, code: codes.InvalidArgument},
		"many nodes": {change: func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0] = use(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER, "")
		}, code: codes.InvalidArgument},
		"file system":   {change: func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0] = use(once, "ntfs") }, code: codes.InvalidArgument},
		"parameter":     {change: func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"color": "red"} }, code: codes.InvalidArgument},
		"no snapshot":   {change: func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromSnapshot("x") }, code: codes.NotFound},
		"of the source": {change: func(r *csi.CreateVolumeRequest) { r.VolumeContentSource, r.CapacityRange = fromVolume("source"), nil }, size: 5},
		"too small":     {change: func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromVolume("source") }, code: codes.OutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaller(t)
			c.volumes["source"] = &Volume{ID: "source", SizeGiB: 5, State: Ready}
			code, v := c.create("pvc-1", test.change)
			if code != test.code || code == 0 && v.CapacityBytes != test.size*gib {
				t.Fatalf("%v, %v", code, v)
			}
			if code != 0 && len(c.volumes) != 1 {
				t.Errorf("what is refused leaves %v", c.volumes)
			}
		})
	}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// TestCreateAgain repeats what was done, and what failed.
func TestCreateAgain(t *testing.T) {
	c := newCaller(t)
	_, first := c.create("pvc-1", func(r *csi.CreateVolumeRequest) {
		r.Parameters = map[string]string{"type": "fast", "csi.storage.k8s.io/pvc/name": "data"}
	})
	if code, again := c.create("pvc-1", nil); code != 0 || again.VolumeId != first.VolumeId || len(c.volumes) != 1 {
		t.Errorf("again: %v, %v of %v", code, again, c.volumes)
	}
	if v := c.volumes[first.VolumeId]; v.Type != "fast" || v.Metadata["csi.storage.k8s.io/pvc/name"] != "data" || v.Metadata[ClusterKey] != "c" || v.Name != "pvc-1" {
		t.Errorf("the volume: %+v", v)
	}
	if code, _ := c.create("pvc-1", func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 9 * gib }); code != codes.AlreadyExists {
		t.Errorf("another size: %v", code)
	}
	c.fail = errs.New(errs.QuotaExceeded, "VolumeLimitExceeded")
	if code, _ := c.create("pvc-2", nil); code != codes.ResourceExhausted {
		t.Errorf("beyond the quota: %v", code)
	}
	c.spoil = true
	if code, _ := c.create("pvc-3", nil); code != codes.ResourceExhausted || len(c.volumes) != 1 {
		t.Errorf("one that failed: %v, %v", code, c.volumes)
	}
	if code, _ := c.create("pvc-3", nil); code != 0 {
		t.Errorf("the next attempt: %v", code)
	}
	for range 2 {
		if code := c.call("DeleteVolume", &csi.DeleteVolumeRequest{VolumeId: first.VolumeId}, nil); code != 0 {
			t.Errorf("deleting: %v", code)
		}
	}
}

// TestAttach has a volume on one node at a time, of the cluster's.
func TestAttach(t *testing.T) {
	c := newCaller(t)
	_, v := c.create("pvc-1", nil)
	publish := func(node string, readOnly bool) codes.Code {
		return c.call("ControllerPublishVolume", &csi.ControllerPublishVolumeRequest{VolumeId: v.VolumeId, NodeId: node, VolumeCapability: use(once, ""), Readonly: readOnly}, nil)
	}
	for _, step := range []struct {
		node     string
		readOnly bool
		want     codes.Code
	}{{"stranger", false, codes.NotFound}, {"one", false, 0}, {"one", false, 0}, {"one", true, codes.AlreadyExists}, {"two", false, codes.FailedPrecondition}} {
		if code := publish(step.node, step.readOnly); code != step.want {
			t.Errorf("%+v: %v", step, code)
		}
	}
	if code := c.call("DeleteVolume", &csi.DeleteVolumeRequest{VolumeId: v.VolumeId}, nil); code != codes.FailedPrecondition {
		t.Errorf("deleting what is attached: %v", code)
	}
	c.volumes[v.VolumeId].Attachments = append(c.volumes[v.VolumeId].Attachments, Attachment{ID: "other", Volume: v.VolumeId, Node: "one"})
	if code := c.call("ControllerUnpublishVolume", &csi.ControllerUnpublishVolumeRequest{VolumeId: v.VolumeId}, nil); code != 0 {
		t.Errorf("detaching: %v", code)
	}
	if left := c.volumes[v.VolumeId].Attachments; len(left) != 1 || left[0].ID != "other" {
		t.Errorf("after the cluster's attachment ended there are %+v", left)
	}
	if code := c.call("ControllerUnpublishVolume", &csi.ControllerUnpublishVolumeRequest{VolumeId: "gone", NodeId: "one"}, nil); code != 0 {
		t.Errorf("detaching what is gone: %v", code)
	}
	c.volumes[v.VolumeId].Attachments = nil
	for _, readOnly := range []bool{true, false} { // which a server's disk never is
		if code := publish("guest", readOnly); code != 0 {
			t.Errorf("attaching to a server (%v): %v", readOnly, code)
		}
	}
	if a := c.volumes[v.VolumeId].Attachments; len(a) != 1 || a[0].Server != "server-1" || a[0].ReadOnly {
		t.Errorf("on a server it is attached as %+v", a)
	}
}

func TestSnapshots(t *testing.T) {
	c := newCaller(t)
	_, v := c.create("pvc-1", nil)
	_, w := c.create("pvc-2", nil)
	take := func(name, volume string) (codes.Code, *csi.Snapshot) {
		var out csi.CreateSnapshotResponse
		code := c.call("CreateSnapshot", &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume}, &out)
		return code, out.Snapshot
	}
	code, x := take("s1", v.VolumeId)
	if code != 0 || !x.ReadyToUse || x.SizeBytes != 2*gib || x.SourceVolumeId != v.VolumeId {
		t.Fatalf("%v, %v", code, x)
	}
	if code, again := take("s1", v.VolumeId); code != 0 || again.SnapshotId != x.SnapshotId {
		t.Errorf("again: %v, %v", code, again)
	}
	if code, _ := take("s1", w.VolumeId); code != codes.AlreadyExists {
		t.Errorf("of another volume: %v", code)
	}
	if code, _ := take("s2", "gone"); code != codes.NotFound {
		t.Errorf("of nothing: %v", code)
	}
	if code, made := c.create("pvc-3", func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromSnapshot(x.SnapshotId) }); code != 0 || c.volumes[made.VolumeId].Snapshot != x.SnapshotId {
		t.Errorf("from the snapshot: %v", code)
	}
	var list csi.ListSnapshotsResponse
	if code := c.call("ListSnapshots", &csi.ListSnapshotsRequest{SourceVolumeId: w.VolumeId}, &list); code != 0 || len(list.Entries) != 0 {
		t.Errorf("of the other volume: %v, %v", code, list.Entries)
	}
}

func TestPages(t *testing.T) {
	c := newCaller(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		c.create(name, nil)
	}
	var seen []string
	token := ""
	for pages := 0; pages < 4; pages++ {
		var out csi.ListVolumesResponse
		if code := c.call("ListVolumes", &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token}, &out); code != 0 {
			t.Fatal(code)
		}
		for _, e := range out.Entries {
			seen = append(seen, e.Volume.VolumeId)
		}
		if token = out.NextToken; token == "" {
			break
		}
	}
	if len(seen) != 5 || !slices.IsSorted(seen) || len(slices.Compact(slices.Clone(seen))) != 5 {
		t.Errorf("in pages there are %s", strings.Join(seen, " "))
	}
	if code := c.call("ListVolumes", &csi.ListVolumesRequest{StartingToken: "nonsense"}, nil); code != codes.Aborted {
		t.Errorf("a token of somebody else: %v", code)
	}
	if code := c.call("Nothing", &csi.ListVolumesRequest{}, nil); code != codes.Unimplemented {
		t.Errorf("a call that is not known: %v", code)
	}
}
