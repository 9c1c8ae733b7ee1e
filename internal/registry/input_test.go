package registry

import (
	"bytes"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

// leaves fails if something of a refused request is left.
func (w *world) leaves(what, before string) {
	w.t.Helper()
	if now := w.kept(); now != before {
		w.t.Errorf("%s: there were %s, and now %s", what, before, now)
	}
	if left, _ := os.ReadDir(w.svc.upload("")); len(left) != 0 {
		w.t.Errorf("%s: uploads are left: %v", what, left)
	}
}

func TestWrongDigests(t *testing.T) {
	w := newWorld(t)
	max := w.ofDemo("max")
	max.push("demo/web", "1", "layer", "{}")
	before := w.kept()
	for dgst, code := range map[string]string{
		sum("something else"):                "DIGEST_INVALID",
		"sha512:" + strings.Repeat("0", 128): "DIGEST_INVALID",
	} {
		g := max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
		g = max.want(202, "PATCH", g.header.Get("Location"), "content")
		g = max.want(400, "PUT", g.header.Get("Location")+"&digest="+url.QueryEscape(dgst), "")
		if g.code() != code {
			t.Errorf("%s: %s", dgst, g.body)
		}
		w.leaves(dgst, before)
	}
	m := manifest("layer", "{}") + " "
	if g := max.want(400, "PUT", "/v2/demo/web/manifests/"+sum("else"), m, "Content-Type", ociManifest); g.code() != "DIGEST_INVALID" {
		t.Errorf("a manifest with a wrong digest: %s", g.body)
	}
	w.leaves("a manifest with a wrong digest", before)
	if g := max.want(400, "PUT", "/v2/demo/web/manifests/2", manifest("not here", "{}"), "Content-Type", ociManifest); g.code() != "MANIFEST_BLOB_UNKNOWN" {
		t.Errorf("a manifest of missing layers: %s", g.body)
	}
	w.leaves("a manifest of missing layers", before)
	for _, body := range []string{"", "{}", "[]", "null", `{"schemaVersion":1}`, "\x00", `{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"../../x"},"layers":[]}`,
		`{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"digest":"sha256:x"},"layers":[{"digest":""}]}`} {
		if g := max.do("PUT", "/v2/demo/web/manifests/2", body, "Content-Type", ociManifest); g.status < 400 || g.status >= 500 || g.code() == "" {
			t.Errorf("the manifest %q: %d %s", body, g.status, g.body)
		}
	}
	elsewhere := func(u string) string {
		return strings.Replace(manifest("not here", "{}"), `layer.v1.tar","digest"`, `layer.nondistributable.v1.tar","urls":["`+u+`"],"digest"`, 1)
	}
	for _, u := range []string{"file:///etc/passwd", "ftp://elsewhere.example/x", ""} {
		max.want(400, "PUT", "/v2/demo/web/manifests/2", elsewhere(u), "Content-Type", ociManifest)
	}
	max.want(400, "PUT", "/v2/demo/web/manifests/2", manifest("layer", "{}"), "Content-Type", "text/html")
	w.leaves("bad manifests", before)
	max.want(201, "PUT", "/v2/demo/web/manifests/2", elsewhere("https://elsewhere.example/layer"), "Content-Type", ociManifest)
}

func TestTooLarge(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxBlob = 1000 })
	max := w.ofDemo("max")
	before := w.kept()
	big := strings.Repeat("x", 1001)
	g := max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	at := g.header.Get("Location")
	if g := max.want(413, "PATCH", at, big); g.code() != "SIZE_INVALID" {
		t.Errorf("a large blob: %s", g.body)
	}
	g = max.want(202, "POST", "/v2/demo/web/blobs/uploads/", "")
	g = max.want(202, "PATCH", g.header.Get("Location"), big[:600])
	max.want(413, "PATCH", g.header.Get("Location"), big[:600])
	if w.kept() != before {
		t.Errorf("there are %s", w.kept())
	}
	if g := max.layer("demo/web", big[:1000]); g.status != 201 {
		t.Errorf("a blob of just the right size: %d %s", g.status, g.body)
	}
	if g := max.do("PUT", "/v2/demo/web/manifests/2", `{"x":"`+strings.Repeat("x", maxManifest)+`"}`, "Content-Type", ociManifest); g.status != 400 && g.status != 413 {
		t.Errorf("a large manifest: %d %.200s", g.status, g.body)
	}
}

func TestManyLinks(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxLinks = 5 })
	max, mona := w.ofDemo("max"), w.ofDemo("mona")
	max.push("demo/web", "1", "layer", "{}") // two layers, a manifest, a tag
	max.push("demo/web", "2", "layer", "{}")
	max.push("demo/web", "2", "layer", "{}") // which is there
	g := max.want(429, "PUT", "/v2/demo/web/manifests/3", manifest("layer", "{}"), "Content-Type", ociManifest)
	if g.code() != "TOOMANYREQUESTS" || g.header.Get("Location") != "" {
		t.Errorf("one too many: %s %v", g.body, g.header)
	}
	w.ofOther("max").push("other/web", "1", "layer", "{}")
	mona.want(202, "DELETE", "/v2/demo/web/manifests/1", "")
	max.push("demo/web", "3", "layer", "{}")
}

func TestHostileNames(t *testing.T) {
	w := newWorld(t)
	mona := w.ofDemo("mona")
	d := w.ofDemo("max").push("demo/web", "1", "layer", "{}")
	before := w.kept()
	token, _ := mona.token("repository:demo/web:pull,push,delete", "registry:catalog:*")
	for _, path := range []string{
		"demo/web/../../other/x/manifests/1", "demo/%2e%2e/other/manifests/1", "demo/..%2f..%2fetc/manifests/1", "demo/web/manifests/..", "demo/web/manifests/%2e%2e%2f1",
		"Demo/web/manifests/1", "demo/WEB/manifests/1", "demo//web/manifests/1", "demo/web%00/manifests/1", "demo/_layers/x/manifests/1", "demo/-web/manifests/1", "demo/w%20b/manifests/1",
		"demo/manifests/1", "demo/web/blobs/sha256:" + strings.Repeat("0", 63), "demo/web/blobs/sha256:..%2f..", "demo/web/blobs/md5:" + strings.Repeat("0", 32),
		"demo/web/manifests/" + strings.Repeat("x", 129), "demo/" + strings.Repeat("x", 250) + "/manifests/1", "demo/" + strings.Repeat("x", 223) + "/manifests/1", "demo/web/blobs/uploads/..", "demo/web/blobs/uploads/" + strings.Repeat("0", 36),
		"demo/web/blobs/uploads/%2e%2e", "demo/web/tags", "demo/web/nothing", "web", "..", "%2e%2e", "demo/web/manifests/", "demo/web/blobs/", "demo/web/referrers/", "demo/web/referrers/x", "demo/web/referrers/sha256:..%2f..", "/manifests/1", "demo/\u00e9/manifests/1",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "BREW"} {
			g := w.raw(method, "/v2/"+path, strings.NewReader("x"), "Authorization", "Bearer "+token)
			if g.status < 300 || g.status >= 500 && g.status != 501 {
				t.Errorf("%s %s: %d %s", method, path, g.status, g.body)
			}
		}
	}
	w.leaves("hostile names", before)
	mona.pull(200, "demo/web", d)
	w.ofDemo("max").push("demo/"+strings.Repeat("x", 222), "1", "{}") // the longest
	if g := mona.want(400, "GET", "/v2/demo/WEB/manifests/1", ""); g.code() != codeNameInvalid {
		t.Errorf("a bad name: %s", g.body)
	}
}

func TestLocate(t *testing.T) {
	hexa, id := strings.Repeat("ab", 32), "01234567-89ab-4def-8123-456789abcdef"
	root := layoutRoot + "repositories/p/web"
	for path, want := range map[string]string{
		layoutRoot + "blobs/sha256/ab/" + hexa + "/data":               "blob sha256:" + hexa,
		root + "/_layers/sha256/" + hexa + "/link":                     "p/web layer sha256:" + hexa,
		root + "/_manifests/revisions/sha256/" + hexa + "/link":        "p/web manifest sha256:" + hexa,
		root + "/_manifests/tags/1.0/current/link":                     "p/web tag 1.0",
		root + "/_manifests/tags/1.0":                                  "p/web tag 1.0",
		root + "/_manifests/tags":                                      "tags p/web",
		root + "/_manifests/tags/1.0/index/sha256/" + hexa + "/link":   "history",
		root + "/_uploads/" + id + "/data":                             "upload data",
		root + "/_uploads/" + id + "/hashstates/sha256/10":             "upload 10",
		root + "/_uploads/" + id + "/hashstates/sha256/../../../data":  "",
		root + "/_uploads/../data":                                     "",
		root + "/_uploads/" + id + "/../../../x":                       "",
		root + "/_uploads/" + strings.ToUpper(id) + "/data":            "",
		root + "/_uploads":                                             "",
		root + "/_layers/sha256/../link":                               "",
		root + "/_layers/md5/" + hexa + "/link":                        "",
		layoutRoot + "blobs/sha512/ab/" + hexa + "/data":               "",
		layoutRoot + "blobs/sha256/ab/../../x/data":                    "",
		layoutRoot + "repositories/p/_layers/sha256/" + hexa + "/link": "",
		"/etc/passwd": "", "": "", "/": "", root: "", root + "/_": "", root + "/_manifests": "", root + "/_manifests/x": "",
	} {
		got := ""
		switch at, ok := locate(path); {
		case !ok:
		case at.blob != "":
			got = "blob " + at.blob
		case at.link != nil:
			got = at.link.ID()
		case at.tags != "":
			got = "tags " + at.tags
		case at.history:
			got = "history"
		case at.upload != "":
			got = "upload " + at.upload[strings.LastIndex(at.upload, "/")+1:]
			if strings.Contains(at.upload, "..") {
				t.Errorf("%s is at %s", path, at.upload)
			}
		}
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// Distribution's log is ours: not logrus's own, which others of the process use.
func TestQuiet(t *testing.T) {
	var leaked bytes.Buffer
	std := logrus.StandardLogger()
	out, level, formatter, hooks := std.Out, std.Level, std.Formatter, len(std.Hooks)
	std.SetOutput(&leaked)
	std.SetLevel(logrus.TraceLevel)
	t.Cleanup(func() {
		std.SetOutput(out)
		std.SetLevel(level)
	})
	w := newWorld(t)
	max := w.ofDemo("max")
	max.push("demo/web", "1", "layer", "{}")
	max.want(400, "PUT", "/v2/demo/web/manifests/2", manifest("not here", "{}"), "Content-Type", ociManifest)
	max.pull(404, "demo/web", "nothing")
	if leaked.Len() > 0 {
		t.Errorf("logrus was told: %s", leaked.String())
	}
	if std.Level != logrus.TraceLevel || std.Formatter != formatter || len(std.Hooks) != hooks {
		t.Error("logrus was changed")
	}
	if !strings.Contains(w.log.String(), "registry: ") {
		t.Error("nothing was logged where it should be")
	}
}
