package image

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/members"
)

func TestCreate(t *testing.T) {
	b := start(t, nil)
	for _, tc := range []struct {
		token, body string
		status      int
		want        map[string]any
	}{
		{"one", `{}`, 201, map[string]any{"name": nil, "status": "queued", "visibility": "shared", "owner": "p1", "size": nil, "min_disk": 0.0, "protected": false,
			"os_hidden": false, "checksum": nil, "disk_format": nil, "schema": "/v2/schemas/image"}},
		{"one", `{"id":"aaaaaaaa-0000-4000-8000-000000000001","name":"é","tags":["b","a","b"],"hw_disk_bus":"scsi","min_ram":512,"protected":true}`, 201,
			map[string]any{"id": "aaaaaaaa-0000-4000-8000-000000000001", "name": "é", "hw_disk_bus": "scsi", "min_ram": 512.0, "protected": true,
				"self": "/v2/images/aaaaaaaa-0000-4000-8000-000000000001", "file": "/v2/images/aaaaaaaa-0000-4000-8000-000000000001/file"}},
		{"one", `{"id":"aaaaaaaa-0000-4000-8000-000000000001"}`, 409, nil},
		{"one", `{"id":"x"}`, 400, nil},
		{"one", `[]`, 400, nil},
		{"one", `{"name":5}`, 400, nil},
		{"one", `{"name":"` + strings.Repeat("x", 256) + `"}`, 400, nil},
		{"one", `{"disk_format":"floppy"}`, 400, nil},
		{"one", `{"container_format":"box"}`, 400, nil},
		{"one", `{"visibility":"secret"}`, 400, nil},
		{"one", `{"visibility":"public"}`, 403, nil},
		{"one", `{"visibility":"community"}`, 201, nil},
		{"admin", `{"visibility":"public"}`, 201, nil},
		{"one", `{"owner":"p2"}`, 403, nil},
		{"admin", `{"owner":"p2"}`, 201, map[string]any{"owner": "p2"}},
		{"one", `{"min_disk":-1}`, 400, nil},
		{"one", `{"min_ram":"5"}`, 400, nil},
		{"one", `{"protected":"yes"}`, 400, nil},
		{"one", `{"protected":null}`, 400, nil},
		{"one", `{"tags":["` + strings.Repeat("x", 256) + `"]}`, 400, nil},
		{"one", `{"tags":"x"}`, 400, nil},
		{"one", `{"status":"active"}`, 403, nil},
		{"one", `{"self":"x"}`, 403, nil},
		{"one", `{"deleted":"x"}`, 403, nil},
		{"one", `{"os_glance_x":"x"}`, 403, nil},
		{"one", `{"my_prop":5}`, 400, nil},
		{"one", `{"` + strings.Repeat("x", 256) + `":"x"}`, 400, nil},
		{"read", `{}`, 403, nil},
		{"none", `{}`, 401, nil},
	} {
		got := b.want(tc.status, tc.token, "POST /images", tc.body)
		for k, v := range tc.want {
			if fmt.Sprint(got[k]) != fmt.Sprint(v) {
				t.Errorf("%s: %s is %v, want %v", tc.body, k, got[k], v)
			}
		}
	}
	many := make([]string, maxProperties+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"p%d":"x"`, i)
	}
	b.want(413, "one", "POST /images", "{"+strings.Join(many, ",")+"}")
}

func TestPatch(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", `{"name":"x","tags":["old"],"my_prop":"1","disk_format":"raw","container_format":"bare"}`)
	one := func(op, path, value string) string {
		if value != "" {
			value = `,"value":` + value
		}
		return fmt.Sprintf(`[{"op":%q,"path":%q%s}]`, op, path, value)
	}
	for _, tc := range []struct {
		token, body string
		status      int
		key         string
		want        any
	}{
		{"one", one("replace", "/name", `"y"`), 200, "name", "y"},
		{"one", one("replace", "/name", `null`), 200, "name", nil},
		{"one", one("add", "/other", `"2"`), 200, "other", "2"},
		{"one", one("add", "/a~1b~0c", `"3"`), 200, "a/b~c", "3"},
		{"one", one("replace", "/my_prop", `"4"`), 200, "my_prop", "4"},
		{"one", one("replace", "/absent", `"4"`), 409, "", nil},
		{"one", one("remove", "/my_prop", ""), 200, "my_prop", nil},
		{"one", one("remove", "/my_prop", ""), 409, "", nil},
		{"one", one("remove", "/name", ""), 403, "", nil},
		{"one", one("replace", "/tags", `["b","a"]`), 200, "tags", []any{"a", "b"}},
		{"one", one("replace", "/min_disk", `3`), 200, "min_disk", 3.0},
		{"one", one("replace", "/min_disk", `-3`), 400, "", nil},
		{"one", one("replace", "/status", `"active"`), 403, "", nil},
		{"one", one("replace", "/id", `"x"`), 403, "", nil},
		{"one", one("add", "/location", `"x"`), 403, "", nil},
		{"one", one("add", "/locations/-", `{"url":"file:///etc/passwd","metadata":{}}`), 403, "", nil},
		{"one", one("add", "/tags/-", `"x"`), 400, "", nil},
		{"one", one("move", "/name", `"x"`), 400, "", nil},
		{"one", one("add", "name", `"x"`), 400, "", nil},
		{"one", one("add", "/name/", `"x"`), 400, "", nil},
		{"one", one("add", "/na~2me", `"x"`), 400, "", nil},
		{"one", one("add", "/name", ""), 400, "", nil},
		{"one", `{"op":"add"}`, 400, "", nil},
		{"one", `[5]`, 400, "", nil},
		{"one", one("replace", "/owner", `"p2"`), 403, "", nil},
		{"one", one("replace", "/visibility", `"public"`), 403, "", nil},
		{"one", one("replace", "/visibility", `"private"`), 200, "visibility", "private"},
		{"two", one("replace", "/name", `"z"`), 404, "", nil},
		{"read", one("replace", "/name", `"z"`), 403, "", nil},
		{"admin", one("replace", "/visibility", `"public"`), 200, "visibility", "public"},
		{"two", one("replace", "/name", `"z"`), 403, "", nil},
		{"admin", one("replace", "/owner", `"p2"`), 200, "owner", "p2"},
		// All or nothing.
		{"two", `[{"op":"replace","path":"/name","value":"q"},{"op":"remove","path":"/absent"}]`, 409, "", nil},
		{"two", `[]`, 200, "name", nil},
	} {
		got := b.want(tc.status, tc.token, "PATCH /images/"+id, tc.body)
		if tc.key != "" && fmt.Sprint(got[tc.key]) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %s is %v, want %v", tc.body, tc.key, got[tc.key], tc.want)
		}
	}
	b.want(415, "two", "PATCH /images/"+id+" application/json", "[]")
	old := "PATCH /images/" + id + " application/openstack-images-v2.0-json-patch"
	b.want(200, "two", old, `[{"replace":"/name","value":"old style"}]`)
	b.want(409, "two", old, `[{"add":"/name","value":"old style"}]`)
	b.want(400, "two", old, `[{"add":"/x","remove":"/y","value":"z"}]`)
	b.want(204, "two", "PUT /images/"+id+"/file", "data")
	b.want(403, "two", "PATCH /images/"+id, one("replace", "/disk_format", `"qcow2"`))
}

func TestListAndFilter(t *testing.T) {
	b := start(t, nil)
	for i, body := range []string{
		`{"name":"a","disk_format":"raw","container_format":"bare","tags":["x","y"],"os_distro":"debian"}`,
		`{"name":"b","disk_format":"qcow2","container_format":"bare","tags":["x"],"protected":true}`,
		`{"name":"c,d","disk_format":"raw","container_format":"bare","os_hidden":true}`,
		`{"name":"e","visibility":"private","min_ram":64}`,
		`{"name":"f","visibility":"community"}`,
	} {
		id := b.create("one", body)
		if i == 0 {
			b.want(204, "one", "PUT /images/"+id+"/file", "12345")
		}
	}
	b.create("admin", `{"name":"pub","visibility":"public"}`)
	names := func(token, query string) string {
		t.Helper()
		var out []string
		for _, v := range b.want(200, token, "GET /images?"+query, "")["images"].([]any) {
			out = append(out, v.(map[string]any)["name"].(string))
		}
		return strings.Join(out, " ")
	}
	for _, tc := range []struct{ token, query, want string }{
		{"one", "", "pub f e b a"},
		{"one", "sort=name:asc", "a b e f pub"},
		{"one", "sort_key=name&sort_dir=asc", "a b e f pub"},
		{"one", "sort_key=disk_format&sort_key=name&sort_dir=desc&sort_dir=asc", "a b e f pub"},
		{"one", "sort=name:asc&limit=2", "a b"},
		{"one", "limit=0", ""},
		{"two", "", "pub"},
		{"two", "visibility=community", "f"},
		{"two", "visibility=all", "pub f"},
		{"admin", "", "pub e b a"},
		{"admin", "visibility=all", "pub f e b a"},
		{"one", "name=in:a," + url.QueryEscape(`"c,d"`), "a"},
		{"one", "os_hidden=true&name=in:a," + url.QueryEscape(`"c,d"`), "c,d"},
		{"one", "name=a&disk_format=raw", "a"},
		{"one", "tag=x", "b a"},
		{"one", "tag=x&tag=y", "a"},
		{"one", "os_distro=debian", "a"},
		{"one", "os_distro=suse", ""},
		{"one", "status=active", "a"},
		{"one", "size_min=5&size_max=5", "a"},
		{"one", "size_min=6", ""},
		{"one", "protected=true", "b"},
		{"one", "min_ram=64", "e"},
		{"one", "owner=p1&visibility=shared", "b a"},
		{"one", "created_at=gt:2020-01-01T00:00:00Z&name=a", "a"},
		{"one", "created_at=lt:2020-01-01T00:00:00Z", ""},
		{"one", "member_status=pending&visibility=public", "pub"},
	} {
		if got := names(tc.token, tc.query); got != tc.want {
			t.Errorf("%s as %s: %s, want %s", tc.query, tc.token, got, tc.want)
		}
	}
	for _, bad := range []string{"limit=-1", "limit=x", "marker=" + "aaaaaaaa-0000-4000-8000-000000000001", "sort_key=colour", "sort_dir=up", "sort=name:up", "sort=name&sort_key=name",
		"visibility=x", "member_status=x", "size_min=x", "created_at=x", "created_at=foo:2020-01-01", "name=foo:bar", "protected=maybe", "changes-since=2020", "name=in:" + url.QueryEscape(`"a`)} {
		b.want(400, "one", "GET /images?"+bad, "")
	}
	page := b.want(200, "one", "GET /images?limit=3&name=in:a,b,e,f,pub", "")
	next, err := url.Parse(page["next"].(string))
	first := url.Values{"limit": {"3"}, "name": {"in:a,b,e,f,pub"}}
	if err != nil || next.Path != "/v2/images" || page["first"] != "/v2/images?"+first.Encode() {
		t.Errorf("links: %v %v", page["next"], page["first"])
	}
	if got := names("one", next.RawQuery); got != "b a" {
		t.Errorf("the next page: %s", got)
	}
}

func TestMembers(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	at := "/images/" + id + "/members"
	b.want(404, "two", "GET /images/"+id, "")
	b.want(400, "one", "POST "+at, `{}`)
	b.want(400, "one", "POST "+at, `{"member":""}`)
	b.want(404, "two", "POST "+at, `{"member":"p2"}`)
	b.want(403, "read", "POST "+at, `{"member":"p2"}`)
	if m := b.want(200, "one", "POST "+at, `{"member":"p2"}`); m["status"] != "pending" || m["schema"] != "/v2/schemas/member" {
		t.Errorf("%v", m)
	}
	b.want(409, "one", "POST "+at, `{"member":"p2"}`)
	b.want(200, "one", "POST "+at, `{"member":"p3"}`)
	b.want(200, "two", "GET /images/"+id, "")
	listed := func() int { return len(b.want(200, "two", "GET /images", "")["images"].([]any)) }
	if listed() != 0 {
		t.Error("a pending image is listed")
	}
	b.want(403, "one", "PUT "+at+"/p2", `{"status":"accepted"}`)
	b.want(400, "two", "PUT "+at+"/p2", `{"status":"maybe"}`)
	b.want(404, "two", "PUT "+at+"/p3", `{"status":"accepted"}`)
	b.want(200, "two", "PUT "+at+"/p2", `{"status":"accepted"}`)
	if listed() != 1 {
		t.Error("an accepted image is not listed")
	}
	if n := len(b.want(200, "two", "GET "+at, "")["members"].([]any)); n != 1 {
		t.Errorf("a member sees %d members", n)
	}
	if n := len(b.want(200, "one", "GET "+at, "")["members"].([]any)); n != 2 {
		t.Errorf("the owner sees %d members", n)
	}
	b.want(404, "two", "GET "+at+"/p3", "")
	b.want(403, "two", "DELETE "+at+"/p2", "")
	b.want(403, "two", "DELETE /images/"+id, "")
	b.want(403, "two", "PUT /images/"+id+"/file", "x")
	b.want(204, "one", "DELETE "+at+"/p2", "")
	b.want(404, "one", "DELETE "+at+"/p2", "")
	b.want(404, "two", "GET /images/"+id, "")
	private := b.create("one", `{"visibility":"private"}`)
	b.want(403, "one", "POST /images/"+private+"/members", `{"member":"p2"}`)
	b.want(404, "one", "GET /images/"+private+"/members/p2", "")
}

func TestActionsAndTags(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	b.want(403, "one", "POST /images/"+id+"/actions/deactivate", "")
	b.want(204, "one", "PUT /images/"+id+"/file", "data")
	b.want(204, "one", "POST /images/"+id+"/actions/deactivate", "")
	b.want(204, "one", "POST /images/"+id+"/actions/deactivate", "")
	b.want(403, "one", "GET /images/"+id+"/file", "")
	b.want(200, "admin", "GET /images/"+id+"/file", "")
	b.want(204, "one", "POST /images/"+id+"/actions/reactivate", "")
	b.want(200, "one", "GET /images/"+id+"/file", "")
	b.want(404, "two", "POST /images/"+id+"/actions/deactivate", "")
	b.want(204, "one", "PUT /images/"+id+"/tags/t", "")
	b.want(204, "one", "PUT /images/"+id+"/tags/t", "")
	b.want(400, "one", "PUT /images/"+id+"/tags/"+strings.Repeat("x", 256), "")
	if v := b.want(200, "one", "GET /images/"+id, ""); fmt.Sprint(v["tags"]) != "[t]" {
		t.Errorf("tags: %v", v["tags"])
	}
	b.want(204, "one", "DELETE /images/"+id+"/tags/t", "")
	b.want(404, "one", "DELETE /images/"+id+"/tags/t", "")
	b.want(200, "one", "PATCH /images/"+id, `[{"op":"replace","path":"/protected","value":true}]`)
	b.want(403, "one", "DELETE /images/"+id, "")
	b.want(200, "one", "PATCH /images/"+id, `[{"op":"replace","path":"/protected","value":false}]`)
	b.want(204, "one", "DELETE /images/"+id, "")
	b.want(404, "one", "DELETE /images/"+id, "")
}

func TestStageAndImport(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", `{"disk_format":"qcow2"}`)
	direct := `{"method":{"name":"glance-direct"}}`
	b.want(409, "one", "POST /images/"+id+"/import", direct)
	b.want(400, "one", "POST /images/"+id+"/import", `{"method":{"name":"web-download","uri":"http://x/"}}`)
	b.want(400, "one", "POST /images/"+id+"/import", `{}`)
	b.want(204, "one", "PUT /images/"+id+"/stage", "not a qcow2")
	b.want(409, "one", "PUT /images/"+id+"/stage", "again")
	if v := b.want(200, "one", "GET /images/"+id, ""); v["status"] != "uploading" || v["size"] != 11.0 {
		t.Errorf("staged: %v", v)
	}
	b.want(409, "one", "POST /images/"+id+"/import", direct) // no container format
	b.want(403, "one", "PATCH /images/"+id, `[{"op":"replace","path":"/container_format","value":"bare"}]`)
	b.want(204, "one", "DELETE /images/"+id, "")
	if left := b.files(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	id = b.create("one", `{"disk_format":"qcow2","container_format":"bare"}`)
	b.want(204, "one", "PUT /images/"+id+"/stage", "not a qcow2")
	b.want(415, "one", "POST /images/"+id+"/import", direct)
	if v := b.want(200, "one", "GET /images/"+id, ""); v["status"] != "queued" || len(b.files()) > 0 {
		t.Errorf("refused: %v, files %v", v, b.files())
	}
	b.want(204, "one", "PUT /images/"+id+"/stage", "QFI\xfb\x00\x00\x00\x03\x00")
	b.want(202, "one", "POST /images/"+id+"/import", direct)
	if v := b.want(200, "one", "GET /images/"+id, ""); v["status"] != "active" || v["virtual_size"] != float64(1<<30) {
		t.Errorf("imported: %v", v)
	}
	b.want(409, "one", "POST /images/"+id+"/import", direct)
	if v := b.want(200, "one", "GET /info/import", ""); fmt.Sprint(v["import-methods"].(map[string]any)["value"]) != "[glance-direct]" {
		t.Errorf("%v", v)
	}
}

func TestDocuments(t *testing.T) {
	b := start(t, nil)
	for path, status := range map[string]int{"/image": 300, "/image/": 300, "/image/v2": 300, "/image/versions": 200} {
		resp, err := http.Get(b.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	for _, name := range []string{"image", "images", "member", "members"} {
		if v := b.want(200, "one", "GET /schemas/"+name, ""); v["name"] != name {
			t.Errorf("schema %s: %v", name, v)
		}
	}
	props := b.want(200, "one", "GET /schemas/image", "")["properties"].(map[string]any)
	for key := range b.want(201, "one", "POST /images", "{}") {
		if props[key] == nil {
			t.Errorf("the schema does not tell of %s", key)
		}
	}
	b.want(404, "one", "GET /tasks", "")
	b.want(404, "one", "GET /images/", "")
	b.want(404, "one", "DELETE /images/", "")
	b.want(405, "one", "DELETE /images", "")
}

func TestGophercloud(t *testing.T) {
	b := start(t, nil)
	c := &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: "one"}, Endpoint: b.url + "/image/", ResourceBase: b.url + "/image/v2/"}
	ctx := t.Context()
	shared := images.ImageVisibilityShared
	made, err := images.Create(ctx, c, images.CreateOpts{Name: "gopher", DiskFormat: "raw", ContainerFormat: "bare", Visibility: &shared,
		Tags: []string{"t"}, Properties: map[string]string{"architecture": "x86_64"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if err := imagedata.Upload(ctx, c, made.ID, strings.NewReader("hello")).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	got, err := images.Get(ctx, c, made.ID).Extract()
	if err != nil || got.Status != images.ImageStatusActive || got.SizeBytes != 5 || got.Properties["architecture"] != "x86_64" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := images.Update(ctx, c, made.ID, images.UpdateOpts{images.ReplaceImageName{NewName: "renamed"}, images.ReplaceImageMinDisk{NewMinDisk: 2}}).Extract(); err != nil {
		t.Error(err)
	}
	if _, err := members.Create(ctx, c, made.ID, "p2").Extract(); err != nil {
		t.Error(err)
	}
	pages, err := images.List(c, images.ListOpts{Tags: []string{"t"}, Limit: 1}).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list, err := images.ExtractImages(pages)
	if err != nil || !slices.ContainsFunc(list, func(i images.Image) bool { return i.Name == "renamed" && i.MinDiskGigabytes == 2 }) {
		t.Errorf("%+v %v", list, err)
	}
	if err := images.Delete(ctx, c, made.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}

func TestRouteSchemas(t *testing.T) {
	for _, r := range start(t, nil).s.API().Routes {
		for _, body := range r.Body {
			if err := body.Check(); err != nil {
				t.Errorf("%s %s: %v", r.Method, r.Path, err)
			}
		}
	}
}

func TestDefinitions(t *testing.T) {
	b := start(t, nil)
	ns := "/metadefs/namespaces"
	b.want(403, "one", "POST "+ns, `{"namespace":"n"}`)
	b.want(400, "admin", "POST "+ns, `{"display_name":"n"}`)
	b.want(400, "admin", "POST "+ns, `{"namespace":"n","colour":"red"}`)
	v := b.want(201, "admin", "POST "+ns, `{"namespace":"n","visibility":"public","protected":true,"resource_type_associations":[{"name":"OS::Glance::Image"}],
		"properties":{"p":{"title":"P","type":"string"}},"objects":[{"name":"o","properties":{"q":{"title":"Q","type":"integer"}}}],"tags":[{"name":"t"}]}`)
	if v["self"] != "/v2/metadefs/namespaces/n" || v["owner"] != "adm" {
		t.Errorf("%v", v)
	}
	b.want(409, "admin", "POST "+ns, `{"namespace":"n"}`)
	v = b.want(200, "one", "GET "+ns+"/n", "")
	if v["properties"].(map[string]any)["p"].(map[string]any)["title"] != "P" || len(v["objects"].([]any)) != 1 || len(v["tags"].([]any)) != 1 {
		t.Errorf("%v", v)
	}
	b.want(403, "admin", "DELETE "+ns+"/n", "")
	b.want(403, "admin", "DELETE "+ns+"/n/properties/p", "")
	b.want(200, "admin", "PUT "+ns+"/n", `{"namespace":"n2","visibility":"private","protected":false}`)
	b.want(404, "admin", "GET "+ns+"/n", "")
	b.want(404, "one", "GET "+ns+"/n2", "")
	ns += "/n2"
	for _, tc := range []struct{ kind, body, other string }{
		{"properties", `{"name":"x","title":"X","type":"string"}`, `{"name":"y","title":"Y","type":"string"}`},
		{"objects", `{"name":"x","description":"d"}`, `{"name":"y"}`},
		{"resource_types", `{"name":"x","prefix":"h"}`, ""},
	} {
		at := ns + "/" + tc.kind
		b.want(400, "admin", "POST "+at, `{}`)
		b.want(403, "one", "POST "+at, tc.body)
		b.want(201, "admin", "POST "+at, tc.body)
		b.want(409, "admin", "POST "+at, tc.body)
		b.want(200, "admin", "GET "+at, "")
		if tc.other != "" {
			b.want(200, "admin", "GET "+at+"/x", "")
			if v := b.want(200, "admin", "PUT "+at+"/x", tc.other); v["name"] != "y" {
				t.Errorf("%v", v)
			}
			b.want(404, "admin", "GET "+at+"/x", "")
			b.want(204, "admin", "DELETE "+at+"/y", "")
			b.want(204, "admin", "DELETE "+at, "")
		} else {
			b.want(204, "admin", "DELETE "+at+"/x", "")
		}
		b.want(404, "admin", "DELETE "+at+"/x", "")
	}
	b.want(201, "admin", "POST "+ns+"/tags", `{"tags":[{"name":"a"},{"name":"b"}]}`)
	b.want(201, "admin", "POST "+ns+"/tags/c", "")
	b.want(409, "admin", "POST "+ns+"/tags/c", "")
	if v := b.want(200, "admin", "GET "+ns+"/tags", ""); len(v["tags"].([]any)) != 3 {
		t.Errorf("%v", v)
	}
	b.want(204, "admin", "DELETE "+ns+"/tags", "")
	b.want(204, "admin", "DELETE "+ns, "")
	for _, name := range []string{"namespace", "namespaces", "resource_type", "resource_types", "object", "objects", "property", "properties", "tag", "tags"} {
		if v := b.want(200, "one", "GET /schemas/metadefs/"+name, ""); v["name"] == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
}
