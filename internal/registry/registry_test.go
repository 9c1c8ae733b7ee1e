package registry

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestPushAndPull(t *testing.T) {
	w := newWorld(t)
	max, rita, mona := w.ofDemo("max"), w.ofDemo("rita"), w.ofDemo("mona")
	d := max.push("demo/web", "1", "one layer", "another", "{}")
	max.push("demo/deep/er", "1", "one layer", "{}")
	if again := max.push("demo/web", "2", "one layer", "another", "{}"); again != d {
		t.Errorf("the same image has the digest %s, then %s", d, again)
	}
	for _, repo := range []string{"demo/web", w.demo + "/web"} {
		for _, ref := range []string{"1", "2", d} {
			g := rita.pull(200, repo, ref)
			if string(g.body) != manifest("one layer", "another", "{}") || g.header.Get("Docker-Content-Digest") != d {
				t.Errorf("%s:%s is %s (%v)", repo, ref, g.body, g.header)
			}
		}
		g := rita.want(200, "GET", "/v2/"+repo+"/blobs/"+sum("another"), "")
		if string(g.body) != "another" || g.header.Get("Docker-Content-Digest") != sum("another") || g.header.Get("Content-Length") != "7" {
			t.Errorf("a layer is %s (%v)", g.body, g.header)
		}
	}
	if g := rita.want(206, "GET", "/v2/demo/web/blobs/"+sum("one layer"), "", "Range", "bytes=4-6"); string(g.body) != "lay" {
		t.Errorf("a part of a layer is %q", g.body)
	}
	rita.want(404, "GET", "/v2/demo/web/blobs/"+sum("nothing"), "")
	rita.want(404, "GET", "/v2/demo/deep/er/blobs/"+sum("another"), "") // which is in another repository
	if g := rita.want(200, "GET", "/v2/demo/web/tags/list", ""); !strings.Contains(string(g.body), `"tags":["1","2"]`) {
		t.Errorf("the tags are %s", g.body)
	}
	if g := rita.want(200, "GET", "/v2/demo/web/tags/list?n=1&last=1", ""); !strings.Contains(string(g.body), `"tags":["2"]`) {
		t.Errorf("the tags after 1 are %s", g.body)
	}

	mona.want(202, "DELETE", "/v2/demo/web/manifests/2", "")
	rita.pull(404, "demo/web", "2")
	rita.pull(200, "demo/web", "1")
	mona.want(202, "DELETE", "/v2/demo/web/manifests/"+d, "")
	for _, ref := range []string{"1", d} {
		if g := rita.pull(404, "demo/web", ref); g.code() != "MANIFEST_UNKNOWN" {
			t.Errorf("a deleted image: %s", g.body)
		}
	}
	mona.want(404, "DELETE", "/v2/demo/web/manifests/"+d, "")
	mona.want(404, "DELETE", "/v2/demo/web/manifests/1", "")
	if g := rita.want(404, "GET", "/v2/demo/web/tags/list", ""); g.code() != "NAME_UNKNOWN" {
		t.Errorf("a repository without images: %s", g.body)
	}
}

func TestCatalog(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.ofDemo("max").push(fmt.Sprintf("demo/r%d", i), "x", "{}")
	}
	w.ofOther("max").push("other/secret", "x", "{}")
	list := func(a as, path string) (names []string, next string) {
		g := a.want(200, "GET", path, "")
		var body struct{ Repositories []string }
		if err := json.Unmarshal(g.body, &body); err != nil || body.Repositories == nil {
			t.Fatalf("%s: %v", g.body, err)
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(g.header.Get("Link"), "<"), ">")
		return body.Repositories, next
	}
	var all []string
	for path := "/v2/_catalog?n=2"; path != ""; {
		var names []string
		names, path = list(w.ofDemo("rita"), path)
		all = append(all, names...)
	}
	want := []string{w.demo + "/r0", w.demo + "/r1", w.demo + "/r2", w.demo + "/r3", w.demo + "/r4"}
	if !slices.Equal(all, want) {
		t.Errorf("the catalog is %v, want %v", all, want)
	}
	if names, _ := list(w.ofOther("rita"), "/v2/_catalog"); !slices.Equal(names, []string{w.other + "/secret"}) {
		t.Errorf("the other's catalog is %v", names)
	}
	if names, next := list(w.ofDemo("rita"), "/v2/_catalog?n=0"); len(names) != 0 || next != "" {
		t.Errorf("no entries are %v", names)
	}
	w.ofDemo("rita").want(400, "GET", "/v2/_catalog?n=-1", "")
	w.ofDemo("rita").want(501, "DELETE", "/v2/_catalog", "")
}

func TestRoles(t *testing.T) {
	w := newWorld(t)
	d := w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	w.ofDemo("rita").want(403, "POST", "/v2/demo/web/blobs/uploads/", "")
	w.ofDemo("rita").want(403, "PUT", "/v2/demo/web/manifests/2", manifest("layer", "{}"), "Content-Type", ociManifest)
	for _, who := range []string{"rita", "max"} {
		if g := w.ofDemo(who).want(403, "DELETE", "/v2/demo/web/manifests/"+d, ""); g.code() != codeDenied {
			t.Errorf("%s deletes: %s", who, g.body)
		}
		w.ofDemo(who).want(403, "DELETE", "/v2/demo/web/blobs/"+sum("layer"), "")
	}
	w.ofDemo("rita").pull(200, "demo/web", "1")

	// Whoever pushes may give up what it pushes.
	g := w.ofDemo("max").want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	w.ofDemo("max").want(204, "DELETE", g.header.Get("Location"), "")
	if left, _ := os.ReadDir(w.svc.upload("")); len(left) != 0 {
		t.Errorf("uploads are left: %v", left)
	}
}

func TestIsolation(t *testing.T) {
	w := newWorld(t)
	w.ofDemo("max").push("demo/web", "1", "secret layer", "{}")
	eve := w.ofOther("mona")
	for _, repo := range []string{"demo/web", w.demo + "/web", "demo/nothing", w.demo + "/nothing", "nobody/web"} {
		for _, q := range [][2]string{{"GET", "/manifests/1"}, {"HEAD", "/manifests/1"}, {"GET", "/blobs/" + sum("secret layer")}, {"GET", "/tags/list"},
			{"POST", "/blobs/uploads/"}, {"PUT", "/manifests/1"}, {"DELETE", "/manifests/1"}, {"DELETE", "/blobs/" + sum("secret layer")}} {
			if g := eve.want(403, q[0], "/v2/"+repo+q[1], ""); q[0] != "HEAD" && g.code() != codeDenied {
				t.Errorf("%s %s: %s", q[0], repo, g.body)
			}
		}
	}

	// A digest is not enough to get at a layer, wherever the parameters are.
	for _, repo := range []string{"demo/web", w.demo + "/web"} {
		q := url.Values{"from": {repo}, "mount": {sum("secret layer")}}.Encode()
		eve.want(202, "POST", "/v2/other/web/blobs/uploads/?"+q, "")
		eve.want(202, "POST", "/v2/other/web/blobs/uploads/", q, "Content-Type", "application/x-www-form-urlencoded")
		eve.want(202, "POST", "/v2/other/web/blobs/uploads/", q, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		eve.want(202, "POST", "/v2/other/web/blobs/uploads/", "--x\r\nContent-Disposition: form-data; name=\"from\"\r\n\r\n"+repo+
			"\r\n--x\r\nContent-Disposition: form-data; name=\"mount\"\r\n\r\n"+sum("secret layer")+"\r\n--x--\r\n", "Content-Type", "multipart/form-data; boundary=x")
	}
	eve.want(404, "GET", "/v2/other/web/blobs/"+sum("secret layer"), "")
	eve.want(400, "PUT", "/v2/other/web/manifests/1", manifest("secret layer", "{}"), "Content-Type", ociManifest)

	// Within the project a layer is taken from another repository.
	max := w.ofDemo("max")
	token, _ := max.token("repository:demo/copy:pull,push", "repository:demo/web:pull")
	g := w.raw("POST", "/v2/demo/copy/blobs/uploads/?from=demo/web&mount="+sum("secret layer"), nil, "Authorization", "Bearer "+token)
	if g.status != 201 {
		t.Errorf("a layer of the same project is not mounted: %d %s", g.status, g.body)
	}
	max.want(200, "GET", "/v2/demo/copy/blobs/"+sum("secret layer"), "")

	// An upload belongs to the repository where it began.
	g = max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	u, _ := url.Parse(g.header.Get("Location"))
	id := u.Path[strings.LastIndex(u.Path, "/")+1:]
	eve.want(404, "GET", "/v2/other/web/blobs/uploads/"+id, "")
	if g := eve.do("PUT", "/v2/other/web/blobs/uploads/"+id+"?"+u.RawQuery+"&digest="+url.QueryEscape(sum("")), ""); g.status < 400 {
		t.Errorf("another's upload was finished: %d", g.status)
	}
	max.want(204, "GET", u.Path, "")
}

// A project of the same name in another domain is another project.
func TestNamesOfDomains(t *testing.T) {
	w := newWorld(t)
	domain := w.keystone("POST", "/domains", map[string]any{"domain": map[string]any{"name": "Elsewhere"}})["domain"].(map[string]any)["id"].(string)
	twin := w.project("demo", domain)
	w.user("max", domain, twin, "member")
	a := w.as("Elsewhere/demo/max")
	w.ofDemo("max").push("demo/web", "1", "ours", "{}")
	a.push("demo/web", "1", "theirs", "{}")
	a.want(404, "GET", "/v2/demo/web/blobs/"+sum("ours"), "")
	a.want(200, "GET", "/v2/"+twin+"/web/blobs/"+sum("theirs"), "")
	a.want(403, "GET", "/v2/"+w.demo+"/web/blobs/"+sum("ours"), "")

	// A project that is renamed keeps its repositories.
	w.keystone("PATCH", "/projects/"+w.demo, map[string]any{"project": map[string]any{"name": "shop"}})
	max := w.as("shop/demo-max")
	max.pull(200, w.demo+"/web", "1")
	max.pull(200, "shop/web", "1")
	max.pull(403, "demo/web", "1")
}

// What is about an image is found by the image.
func TestReferrers(t *testing.T) {
	w := newWorld(t)
	max, rita := w.ofDemo("max"), w.ofDemo("rita")
	d := max.push("demo/web", "1", "layer", "{}")
	about := func(artifact, note string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":3},"annotations":{"note":%q}}`,
			ociManifest, artifact, sum("{}"), ociManifest, d, note)
	}
	var digests []string
	for _, a := range []string{"application/x-signature", "application/x-sbom"} {
		m := about(a, "of "+a)
		g := max.want(201, "PUT", "/v2/demo/web/manifests/"+sum(m), m, "Content-Type", ociManifest)
		if g.header.Get("OCI-Subject") != d {
			t.Errorf("%s: the subject is %q", a, g.header.Get("OCI-Subject"))
		}
		digests = append(digests, sum(m))
	}
	list := func(a as, repo, query string) (types []string) {
		g := a.want(200, "GET", "/v2/"+repo+"/referrers/"+query, "")
		var body struct {
			Manifests []struct {
				Digest, ArtifactType, MediaType string
				Size                            int
				Annotations                     map[string]string
			}
		}
		if err := json.Unmarshal(g.body, &body); err != nil || g.header.Get("Content-Type") != indexType {
			t.Fatalf("%s %v: %v", g.body, g.header, err)
		}
		for _, m := range body.Manifests {
			if m.MediaType != ociManifest || m.Size != len(about(m.ArtifactType, "of "+m.ArtifactType)) || m.Annotations["note"] != "of "+m.ArtifactType || !slices.Contains(digests, m.Digest) {
				t.Errorf("a referrer is %+v", m)
			}
			types = append(types, m.ArtifactType)
		}
		slices.Sort(types)
		return types
	}
	if got := list(rita, "demo/web", d); !slices.Equal(got, []string{"application/x-sbom", "application/x-signature"}) {
		t.Errorf("the referrers are %v", got)
	}
	if got := list(rita, "demo/web", d+"?artifactType=application/x-sbom"); !slices.Equal(got, []string{"application/x-sbom"}) {
		t.Errorf("of one type: %v", got)
	}
	if got := list(rita, "demo/else", d); len(got) != 0 {
		t.Errorf("of another repository: %v", got)
	}
	w.ofOther("mona").want(403, "GET", "/v2/demo/web/referrers/"+d, "")
	w.ofDemo("mona").want(202, "DELETE", "/v2/demo/web/manifests/"+digests[0], "")
	if got := list(rita, "demo/web", d); !slices.Equal(got, []string{"application/x-sbom"}) {
		t.Errorf("after one was deleted: %v", got)
	}
}

// A client may call a blob by a digest of another algorithm.
func TestSHA512(t *testing.T) {
	w := newWorld(t)
	max := w.ofDemo("max")
	d := digest.SHA512.FromString("content").String()
	g := max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	g = max.want(201, "PUT", g.header.Get("Location")+"&digest="+url.QueryEscape(d), "content")
	if g.header.Get("Docker-Content-Digest") != d || !strings.HasSuffix(g.header.Get("Location"), "/web/blobs/"+d) {
		t.Errorf("the blob is said to be %v", g.header)
	}
	for _, name := range []string{d, sum("content")} {
		if g := max.want(200, "GET", "/v2/demo/web/blobs/"+name, ""); string(g.body) != "content" {
			t.Errorf("%s is %q", name, g.body)
		}
	}
	// Distribution mounts by our digest only; by another one the client uploads.
	token, _ := max.token("repository:demo/web:pull", "repository:demo/copy:pull,push")
	if g := w.raw("POST", "/v2/demo/copy/blobs/uploads/?from=demo/web&mount="+d, nil, "Authorization", "Bearer "+token); g.status != 202 {
		t.Errorf("mounting it: %d %s", g.status, g.body)
	}
}
