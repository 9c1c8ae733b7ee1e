package volume

import (
	"fmt"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/saga"
	"github.com/strata-cloud/strata/internal/volume/block"
)

func TestVolumeLife(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	id := w.volume(`"size":1,"name":" v ","metadata":{"a":"b"}`)
	v := w.do("owner", "3.70", "GET", "/volumes/"+id, "").want(200).in("volume")
	for k, want := range map[string]any{"status": "available", "name": "v", "size": 1.0, "bootable": "false", "volume_type": "__DEFAULT__", "availability_zone": "nova",
		"encrypted": false, "multiattach": false, "consumes_quota": true, "os-vol-tenant-attr:tenant_id": project1} {
		if v[k] != want {
			t.Errorf("%s is %v, want %v", k, v[k], want)
		}
	}
	for _, k := range []string{"migration_status", "os-vol-host-attr:host", "cluster_name", "provider_id"} {
		if _, ok := v[k]; ok {
			t.Errorf("a member sees %s", k)
		}
	}
	if a := w.do("admin", "3.0", "GET", "/volumes/"+id, "").want(200).in("volume"); a["os-vol-host-attr:host"] != "node-1@volumes#volumes" || a["group_id"] != nil {
		t.Errorf("an administrator sees %v", a)
	}
	w.do("other", "3.0", "GET", "/volumes/"+id, "").want(404)
	w.do("other", "3.0", "DELETE", "/volumes/"+id, "").want(404)
	w.do("reader", "3.0", "DELETE", "/volumes/"+id, "").want(403)
	w.do("owner", "3.0", "PUT", "/volumes/"+id, `{"volume":{"name":"w"}}`).want(200)
	w.do("owner", "3.53", "PUT", "/volumes/"+id, `{"volume":{}}`).want(400)
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(202)
	w.settled()
	w.do("owner", "3.0", "GET", "/volumes/"+id, "").want(404)
	w.clean(t)
}

func TestCreateRefused(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	source := w.volume(`"size":2`)
	const gone = "99999999-9999-4999-8999-999999999999"
	for _, tc := range []struct {
		body   string
		status int
		text   string
	}{
		{`{"volume":{}}`, 400, "must be an integer and greater than 0"},
		{`{"volume":{"size":0}}`, 400, "size"},
		{`{"volume":{"size":"#$%"}}`, 400, "size"},
		{`{"volume":{"size":-1}}`, 400, "size"},
		{`{"volume":{"size":1,"unknown":1}}`, 400, "unknown"},
		{`{"volume":{"size":1,"volume_type":"none"}}`, 404, "Volume type with name none could not be found."},
		{`{"volume":{"size":1,"snapshot_id":"` + gone + `"}}`, 404, "Snapshot"},
		{`{"volume":{"size":1,"source_volid":"` + gone + `"}}`, 404, "Volume " + gone},
		{`{"volume":{"size":1,"source_volid":"` + source + `"}}`, 400, "smaller than original volume size"},
		{`{"volume":{"size":1,"imageRef":"` + gone + `"}}`, 404, "Image"},
		{`{"volume":{"size":1,"imageRef":"nothing"}}`, 400, "Invalid image identifier"},
		{`{"volume":{"size":1,"imageRef":"` + imageID + `"}}`, 400, "Size of specified image 2GB is larger than volume size 1GB"},
		{`{"volume":{"size":3,"imageRef":"` + imageID + `","source_volid":"` + source + `"}}`, 400, "only one"},
		{`{"volume":{"size":1,"availability_zone":"mars"}}`, 400, "Availability zone 'mars' is invalid."},
		{`{"volume":{"size":1,"multiattach":true}}`, 400, "multiattach parameter has been removed"},
		{`{"volume":{"size":1,"backup_id":"` + gone + `"}}`, 404, "Backup"},
		{`{"volume":{"size":1,"group_id":"` + gone + `"}}`, 404, "Group"},
		{`{"volume":{"size":2000}}`, 413, "exceeds allowed gigabytes quota. Requested 2000G, quota is 1000G and 2G has been consumed."},
	} {
		a := w.do("owner", "3.70", "POST", "/volumes", tc.body).want(tc.status)
		if !strings.Contains(string(a.raw), tc.text) {
			t.Errorf("%s: %s", tc.body, a.raw)
		}
	}
	if n := w.svc.Volumes.Len(); n != 1 {
		t.Errorf("%d volumes", n)
	}
}

func TestQuotaCountsExactly(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.do("admin", "3.0", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"volumes":3}}`).want(200)
	w.do("admin", "3.0", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"unheard":3}}`).want(400)
	w.do("owner", "3.0", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"volumes":30}}`).want(403)
	done := make(chan int, 10)
	for range 10 {
		go func() { done <- w.do("owner", "3.0", "POST", "/volumes", `{"volume":{"size":1}}`).status }()
	}
	got := map[int]int{}
	for range 10 {
		got[<-done]++
	}
	if got[202] != 3 || got[413] != 7 {
		t.Errorf("answers: %v", got)
	}
	w.settled()
	q := w.do("owner", "3.0", "GET", "/os-quota-sets/"+project1+"?usage=true", "").want(200).in("quota_set")
	if fmt.Sprint(q["volumes"]) != "map[in_use:3 limit:3 reserved:0]" {
		t.Errorf("usage: %v", q["volumes"])
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	for i := range 4 {
		w.volume(fmt.Sprintf(`"size":%d,"name":"v%d","metadata":{"n":"%d"}`, i+1, i, i%2))
	}
	names := func(who, version, query string, status int) string {
		a := w.do(who, version, "GET", "/volumes?"+query, "").want(status)
		var out []string
		list, _ := a.body["volumes"].([]any)
		for _, v := range list {
			out = append(out, v.(map[string]any)["name"].(string))
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct {
		who, version, query string
		status              int
		want                string
	}{
		{"owner", "3.0", "sort=name:asc", 200, "v0 v1 v2 v3"},
		{"owner", "3.0", "sort=size:desc&limit=2", 200, "v3 v2"},
		{"owner", "3.0", "sort=size:desc&limit=2&offset=2", 200, "v1 v0"},
		{"owner", "3.0", "limit=0", 200, ""},
		{"owner", "3.0", "limit=-1", 400, ""},
		{"owner", "3.0", "sort=nonsense", 400, ""},
		{"owner", "3.0", "marker=nonsense", 404, ""},
		{"owner", "3.0", "name=v2", 200, "v2"},
		{"owner", "3.34", "name~=v&sort=name:asc", 200, "v0 v1 v2 v3"},
		{"owner", "3.0", "metadata={'n':'1'}&sort=name:asc", 200, "v1 v3"},
		{"owner", "3.0", "bootable=perhaps", 200, ""},
		{"owner", "3.2", "bootable=perhaps", 400, ""},
		{"owner", "3.31", "host=x", 400, ""},
		{"owner", "3.60", "created_at=lt:2001-01-01T00:00:00", 200, ""},
		{"other", "3.0", "", 200, ""},
		{"other", "3.0", "all_tenants=1", 200, ""},
		{"admin", "3.0", "all_tenants=1&sort=name:asc", 200, "v0 v1 v2 v3"},
	} {
		if got := names(tc.who, tc.version, tc.query, tc.status); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.who, tc.query, got, tc.want)
		}
	}
}

func TestCreateFails(t *testing.T) {
	w := newWorld(t, saga.Options{}).start()
	w.node.Refuse(func(call, _ string) error {
		if call == "EnsureVolume" {
			return errs.New(errs.Internal, "the disk is on fire")
		}
		return nil
	})
	id := w.volume(`"size":1`)
	if s := w.status(id); s != block.Errored {
		t.Errorf("the volume is %s", s)
	}
	w.do("owner", "3.0", "DELETE", "/volumes/"+id, "").want(202)
	w.settled()
	w.clean(t)
}
