package compute

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/compute/proxy"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
)

// proxiedVolumes plays a volume service whose volumes are the member's: three at most.
type proxiedVolumes struct {
	volumes   []proxy.Volume
	snapshots []proxy.Snapshot
}

func (f *proxiedVolumes) Volumes(context.Context, *rest.Request) ([]proxy.Volume, error) {
	return f.volumes, nil
}

func (f *proxiedVolumes) Volume(_ context.Context, r *rest.Request, id string) (*proxy.Volume, error) {
	i := slices.IndexFunc(f.volumes, func(v proxy.Volume) bool { return v.ID == id })
	if i < 0 || r.Creds.ProjectID != project1 {
		return nil, errs.NotFoundf("Volume %s could not be found.", id)
	}
	return &f.volumes[i], nil
}

func (f *proxiedVolumes) CreateVolume(_ context.Context, _ *rest.Request, n proxy.Volume) (*proxy.Volume, error) {
	if len(f.volumes) == 3 {
		return nil, errs.New(errs.QuotaExceeded, "Maximum number of volumes allowed (3) exceeded")
	}
	n.ID, n.Status, n.Zone, n.Created = fmt.Sprint("v", len(f.volumes)), "creating", "nova", time.Now()
	f.volumes = append(f.volumes, n)
	return &n, nil
}

func (f *proxiedVolumes) DeleteVolume(ctx context.Context, r *rest.Request, id string) error {
	if _, err := f.Volume(ctx, r, id); err != nil {
		return err
	}
	f.volumes = slices.DeleteFunc(f.volumes, func(v proxy.Volume) bool { return v.ID == id })
	return nil
}

func (f *proxiedVolumes) Snapshots(context.Context, *rest.Request) ([]proxy.Snapshot, error) {
	return f.snapshots, nil
}

func (f *proxiedVolumes) Snapshot(_ context.Context, r *rest.Request, id string) (*proxy.Snapshot, error) {
	i := slices.IndexFunc(f.snapshots, func(x proxy.Snapshot) bool { return x.ID == id })
	if i < 0 || r.Creds.ProjectID != project1 {
		return nil, errs.NotFoundf("Snapshot %s could not be found.", id)
	}
	return &f.snapshots[i], nil
}

func (f *proxiedVolumes) CreateSnapshot(ctx context.Context, r *rest.Request, n proxy.Snapshot, inUse bool) (*proxy.Snapshot, error) {
	v, err := f.Volume(ctx, r, n.VolumeID)
	if err != nil {
		return nil, err
	}
	if v.Server != "" && !inUse {
		return nil, errs.Invalidf("Invalid volume: Volume %s status must be available", v.ID)
	}
	n.ID, n.Status, n.SizeGiB, n.Created = fmt.Sprint("s", len(f.snapshots)), "creating", v.SizeGiB, time.Now()
	f.snapshots = append(f.snapshots, n)
	return &n, nil
}

func (f *proxiedVolumes) DeleteSnapshot(ctx context.Context, r *rest.Request, id string) error {
	if _, err := f.Snapshot(ctx, r, id); err != nil {
		return err
	}
	f.snapshots = slices.DeleteFunc(f.snapshots, func(x proxy.Snapshot) bool { return x.ID == id })
	return nil
}

func TestVolumeProxy(t *testing.T) {
	c := newClient(t)
	c.svc.VolumeProxy = &proxiedVolumes{volumes: []proxy.Volume{{ID: "used", Status: "in-use", SizeGiB: 2, Server: "s1", Device: "/dev/vdb", Type: "fast"}}}
	srv := httptest.NewServer(c.handler())
	t.Cleanup(srv.Close)
	c.url = srv.URL
	vol := func(fields string) string { return `{"volume":{` + fields + `}}` }
	for _, fields := range []string{``, `"size":"#$%"`, `"size":""`, `"size":"0"`, `"size":0`, `"size":1,"imageRef":"x"`, `"size":1,"metadata":{"a":1}`} {
		c.do("member", "POST", "/os-volumes", vol(fields)).want(400)
	}
	c.do("reader", "POST", "/os-volumes", vol(`"size":1`)).want(403)
	a := c.do("member@2.35", "POST", "/os-volumes", vol(`"size":"1","display_name":"n","metadata":{"a":"b"}`)).want(200).is("n", "volume", "displayName").is(1, "volume", "size").
		is("map[a:b]", "volume", "metadata").is("map[]", "volume", "attachments", 0).is("<nil>", "volume", "snapshotId")
	if a.header.Get("Location") == "" {
		t.Error("no Location")
	}
	c.do("member", "POST", "/os-volumes", vol(`"size":1`)).want(200)
	c.do("member", "POST", "/os-volumes", vol(`"size":1`)).want(403)
	c.do("member", "GET", "/os-volumes/used", "").want(200).is("map[device:/dev/vdb id:used serverId:s1 volumeId:used]", "volume", "attachments", 0).is("fast", "volume", "volumeType")
	for query, n := range map[string]int{"": 3, "/detail": 3, "?limit=2": 2, "?offset=1&limit=1": 1, "/detail?offset=2": 1, "?offset=9": 0} {
		c.do("member", "GET", "/os-volumes"+query, "").want(200).count(n, "volumes")
	}
	c.do("member", "GET", "/os-volumes?limit=x", "").want(400)
	snap := func(fields string) string { return `{"snapshot":{` + fields + `}}` }
	c.do("member", "POST", "/os-snapshots", snap(`"display_name":"x"`)).want(400)
	c.do("member", "POST", "/os-snapshots", snap(`"volume_id":"nope"`)).want(404)
	c.do("member", "POST", "/os-snapshots", snap(`"volume_id":"used"`)).want(400)
	c.do("member", "POST", "/os-snapshots", snap(`"volume_id":"used","force":"maybe"`)).want(400)
	c.do("member", "POST", "/os-snapshots", snap(`"volume_id":"used","force":true,"display_name":"x"`)).want(200).is("used", "snapshot", "volumeId").is(2, "snapshot", "size").is("x", "snapshot", "displayName")
	c.do("member", "GET", "/os-snapshots/detail?limit=1", "").want(200).count(1, "snapshots")
	c.do("member", "GET", "/os-snapshots/s0", "").want(200)
	for _, path := range []string{"/os-volumes/used", "/os-snapshots/s0"} {
		c.do("other", "GET", path, "").want(404)
		c.do("member@2.36", "GET", path, "").want(404)
		c.do("other", "DELETE", path, "").want(404)
		c.do("reader", "DELETE", path, "").want(403)
		c.do("member", "DELETE", path, "").want(202)
		c.do("member", "DELETE", path, "").want(404)
	}
	c.do("member", "GET", "/os-volumes/", "").want(404)
}
