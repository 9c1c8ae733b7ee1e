package system

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/opencontainers/go-digest"

	"github.com/strata-cloud/strata/test/cloud"
)

// layout writes an OCI layout with one image of these layers, as tag.
func layout(t *testing.T, tag string, layers ...string) string {
	t.Helper()
	dir := t.TempDir()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      digest.Digest     `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	put := func(kind string, raw []byte) descriptor {
		d := digest.FromBytes(raw)
		file := filepath.Join(dir, "blobs", "sha256", d.Encoded())
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		return descriptor{MediaType: "application/vnd.oci.image." + kind, Digest: d, Size: len(raw)}
	}
	asJSON := func(v any) []byte { return must[[]byte](t)(json.Marshal(v)) }
	var list []descriptor
	var ids []digest.Digest
	for _, l := range layers {
		plain, packed := layerOf(t, l)
		list, ids = append(list, put("layer.v1.tar+gzip", packed)), append(ids, digest.FromBytes(plain))
	}
	config := put("config.v1+json", asJSON(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Labels": map[string]string{"tag": tag}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids}}))
	m := put("manifest.v1+json", asJSON(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": list}))
	m.Annotations = map[string]string{"org.opencontainers.image.ref.name": tag}
	for name, raw := range map[string][]byte{"index.json": asJSON(map[string]any{"schemaVersion": 2, "manifests": []descriptor{m}}), "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// layerOf is a layer with one file.
func layerOf(t *testing.T, content string) (plain, packed []byte) {
	t.Helper()
	var b, z bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	_ = must[int](t)(io.WriteString(w, content))
	gz := gzip.NewWriter(&z)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = must[int](t)(gz.Write(b.Bytes()))
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), z.Bytes()
}

// skopeo is the client, in whose words things go wrong.
type skopeo struct {
	t *testing.T
	c *cloud.Cloud
}

func (s skopeo) run(args ...string) (string, error) {
	cmd := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.t.TempDir()}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("skopeo %s: %w: %s", args[0], err, errs.String())
	}
	return out.String(), nil
}

func (s skopeo) must(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// refused fails unless the client ends with an error that says one of these.
func (s skopeo) refused(what string, says []string, args ...string) {
	s.t.Helper()
	out, err := s.run(args...)
	if err == nil {
		s.t.Errorf("%s went well: %s", what, out)
	} else if !slices.ContainsFunc(says, func(w string) bool { return strings.Contains(err.Error(), w) }) {
		s.t.Errorf("%s: %v, which says none of %q", what, err, says)
	}
}

func (s skopeo) ref(name string) string { return "docker://" + s.c.Listen + "/" + name }

func (s skopeo) push(creds, dir, tag, name string) error {
	_, err := s.run("copy", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+dir+":"+tag, s.ref(name))
	return err
}

func (s skopeo) pull(creds, name string) (string, error) {
	dir := s.t.TempDir()
	_, err := s.run("copy", "--src-tls-verify=false", "--src-creds", creds, s.ref(name), "oci:"+dir+":pulled")
	return dir, err
}

// member makes a user with a role in a project and gives what docker login takes.
func member(t *testing.T, c *cloud.Cloud, project, name, role string) string {
	t.Helper()
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	id := projectID(t, c, project)
	u := must[*users.User](t)(users.Create(t.Context(), admin.identity, users.CreateOpts{Name: name, DomainID: "default", Password: "a-password"}).Extract())
	pages, err := roles.List(admin.identity, roles.ListOpts{Name: role}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := must[[]roles.Role](t)(roles.ExtractRoles(pages))
	if err := roles.Assign(t.Context(), admin.identity, list[0].ID, roles.AssignOpts{UserID: u.ID, ProjectID: id}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	return project + "/" + name + ":a-password"
}

// projectID finds a project, or makes it.
func projectID(t *testing.T, c *cloud.Cloud, name string) string {
	t.Helper()
	admin := clientsOf(t, c.Provider(t.Context(), "strata"))
	pages, err := projects.List(admin.identity, projects.ListOpts{Name: name}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if list := must[[]projects.Project](t)(projects.ExtractProjects(pages)); len(list) > 0 {
		return list[0].ID
	}
	return must[*projects.Project](t)(projects.Create(t.Context(), admin.identity, projects.CreateOpts{Name: name, DomainID: "default"}).Extract()).ID
}

// TestRegistry pushes, inspects, copies and deletes images with skopeo, and is refused
// what it should be.
func TestRegistry(t *testing.T) {
	c := cloud.New(t)
	s := skopeo{t, c}
	demo := c.Auth("strata-demo")
	max := "demo/" + demo["username"] + ":" + demo["password"]
	one := layout(t, "1.0", "shared", "one")
	two := layout(t, "2.0", "shared", strings.Repeat("two ", 1<<20))
	for tag, dir := range map[string]string{"1.0": one, "2.0": two} {
		if err := s.push(max, dir, tag, "demo/web:"+tag); err != nil {
			t.Fatal(err)
		}
	}
	s.looks(max, one)
	s.credentials(max, one)
	s.strangers(max, one)
	s.hostile(max, one)
	s.deletes(max)
	s.survives(max, two)
}

// looks lists, inspects and pulls.
func (s skopeo) looks(max, one string) {
	s.t.Helper()
	var tags struct{ Tags []string }
	if err := json.Unmarshal([]byte(s.must("list-tags", "--tls-verify=false", "--creds", max, s.ref("demo/web"))), &tags); err != nil || !slices.Equal(tags.Tags, []string{"1.0", "2.0"}) {
		s.t.Errorf("the tags are %v: %v", tags.Tags, err)
	}
	var image struct {
		Labels map[string]string
		Layers []string
	}
	if err := json.Unmarshal([]byte(s.must("inspect", "--tls-verify=false", "--creds", max, s.ref("demo/web:2.0"))), &image); err != nil || image.Labels["tag"] != "2.0" || len(image.Layers) != 2 {
		s.t.Errorf("the image is %+v: %v", image, err)
	}
	dir, err := s.pull(max, "demo/web:1.0")
	if err != nil {
		s.t.Fatal(err)
	}
	same, err := exec.Command("diff", "-r", filepath.Join(one, "blobs"), filepath.Join(dir, "blobs")).CombinedOutput()
	if err != nil {
		s.t.Errorf("what is pulled is not what was pushed: %s", same)
	}
	// By the project's id too, and from one repository into another.
	id := projectID(s.t, s.c, "demo")
	if _, err := s.pull(max, id+"/web:1.0"); err != nil {
		s.t.Error(err)
	}
	s.must("copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--src-creds", max, "--dest-creds", max, s.ref("demo/web:2.0"), s.ref("demo/prod/web:2.0"))
}

// credentials tries those that are good and those that are not.
func (s skopeo) credentials(max, one string) {
	s.t.Helper()
	p := s.c.Provider(s.t.Context(), "strata-demo")
	me := meOf(s.t, p)
	app := must[*applicationcredentials.ApplicationCredential](s.t)(applicationcredentials.Create(s.t.Context(), clientsOf(s.t, p).identity, me, applicationcredentials.CreateOpts{Name: "registry"}).Extract())
	if err := s.push(app.ID+":"+app.Secret, one, "1.0", "demo/ci:1.0"); err != nil {
		s.t.Error(err)
	}
	denied := []string{"unauthorized", "authentication required", "denied", "invalid username/password"}
	for what, creds := range map[string]string{"a wrong password": "demo/demo:wrong", "nobody": "demo/nobody:x", "a wrong secret": app.ID + ":wrong", "no project": "x:y"} {
		s.refused(what, denied, "copy", "--dest-tls-verify=false", "--dest-creds", creds, "oci:"+one+":1.0", s.ref("demo/web:bad"))
		s.refused(what, denied, "inspect", "--tls-verify=false", "--creds", creds, s.ref("demo/web:1.0"))
	}
	s.refused("nobody at all", denied, "inspect", "--tls-verify=false", "--no-creds", s.ref("demo/web:1.0"))
	if err := applicationcredentials.Delete(s.t.Context(), clientsOf(s.t, p).identity, me, app.ID).ExtractErr(); err != nil {
		s.t.Fatal(err)
	}
	s.refused("a deleted application credential", denied, "inspect", "--tls-verify=false", "--creds", app.ID+":"+app.Secret, s.ref("demo/ci:1.0"))
}

// meOf is the id of the user who logged in.
func meOf(t *testing.T, p *gophercloud.ProviderClient) string {
	t.Helper()
	u, err := p.GetAuthResult().(tokens.CreateResult).ExtractUser()
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// strangers are refused what is not theirs.
func (s skopeo) strangers(max, one string) {
	s.t.Helper()
	denied := []string{"denied", "unauthorized", "Forbidden", "not for the project", "do not allow"}
	projectID(s.t, s.c, "rivals")
	eve := member(s.t, s.c, "rivals", "eve", "admin")
	rita := member(s.t, s.c, "demo", "rita", "reader")
	for _, name := range []string{"demo/web:1.0", projectID(s.t, s.c, "demo") + "/web:1.0", "demo/nothing:1.0"} {
		s.refused("another project's image", denied, "inspect", "--tls-verify=false", "--creds", eve, s.ref(name))
		s.refused("an image into another project", denied, "copy", "--dest-tls-verify=false", "--dest-creds", eve, "oci:"+one+":1.0", s.ref(name))
		s.refused("deleting another project's image", denied, "delete", "--tls-verify=false", "--creds", eve, s.ref(name))
	}
	if _, err := s.pull(rita, "demo/web:1.0"); err != nil {
		s.t.Error(err)
	}
	s.refused("a reader's push", denied, "copy", "--dest-tls-verify=false", "--dest-creds", rita, "oci:"+one+":1.0", s.ref("demo/web:rita"))
	s.refused("a member's deletion", denied, "delete", "--tls-verify=false", "--creds", max, s.ref("demo/web:1.0"))
}

// hostile names and content are refused and leave nothing.
func (s skopeo) hostile(max, one string) {
	s.t.Helper()
	blobs := func() int {
		return len(must[[]os.DirEntry](s.t)(os.ReadDir(filepath.Join(s.c.Dir, "registry", "blobs"))))
	}
	before := blobs()
	for _, name := range []string{"demo:1.0", "web:1.0", "demo/../rivals/web:1.0", "demo/" + strings.Repeat("x", 230) + ":1.0"} {
		if err := s.push(max, one, "1.0", name); err == nil {
			s.t.Errorf("the name %.40s was taken", name)
		}
	}
	token := s.c.Provider(s.t.Context(), "strata-demo").TokenID
	for _, q := range []struct{ method, path, body, kind string }{
		{"PUT", "demo/web/manifests/sha256:" + strings.Repeat("0", 64), `{"schemaVersion":2}`, "application/vnd.oci.image.manifest.v1+json"},
		{"PUT", "demo/web/manifests/bad", `{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("0", 64) + `"},"layers":[]}`, "application/vnd.oci.image.manifest.v1+json"},
		{"PUT", "demo/web/manifests/bad", "\x00\x01", "application/vnd.oci.image.manifest.v1+json"},
		{"PUT", "demo/web/manifests/%2e%2e%2f%2e%2e%2fx", "{}", "application/json"},
		{"PATCH", "demo/web/blobs/uploads/..%2f..%2fclouds.yaml", "x", ""},
	} {
		r := must[*http.Request](s.t)(http.NewRequest(q.method, s.c.URL()+"/v2/"+q.path, strings.NewReader(q.body)))
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("Content-Type", q.kind)
		a := must[*http.Response](s.t)(http.DefaultTransport.RoundTrip(r))
		a.Body.Close()
		if a.StatusCode < 300 || a.StatusCode >= 500 {
			s.t.Errorf("%s %s: %s", q.method, q.path, a.Status)
		}
	}
	if now := blobs(); now != before {
		s.t.Errorf("there were %d blobs, and now %d", before, now)
	}
	s.refused("a tag that nobody pushed", []string{"manifest unknown", "MANIFEST_UNKNOWN"}, "inspect", "--tls-verify=false", "--creds", max, s.ref("demo/web:bad"))
}

// deletes is what a manager does.
func (s skopeo) deletes(max string) {
	s.t.Helper()
	mona := member(s.t, s.c, "demo", "mona", "manager")
	s.must("delete", "--tls-verify=false", "--creds", mona, s.ref("demo/web:1.0"))
	s.refused("a deleted image", []string{"manifest unknown", "MANIFEST_UNKNOWN"}, "inspect", "--tls-verify=false", "--creds", max, s.ref("demo/web:1.0"))
	if out := s.must("list-tags", "--tls-verify=false", "--creds", max, s.ref("demo/web")); strings.Contains(out, "1.0") {
		s.t.Errorf("the deleted tag is listed: %s", out)
	}
}

// survives: what was pushed is there after a crash.
func (s skopeo) survives(max, two string) {
	s.t.Helper()
	s.c.Kill()
	s.c.Up()
	dir, err := s.pull(max, "demo/web:2.0")
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("diff", "-r", filepath.Join(two, "blobs"), filepath.Join(dir, "blobs")).CombinedOutput(); err != nil {
		s.t.Errorf("after a crash the image is another: %s", out)
	}
	raw := must[[]byte](s.t)(os.ReadFile(filepath.Join(s.c.Dir, "strata.log")))
	for _, word := range []string{"a-password", "level=info msg=", "go.version"} {
		if bytes.Contains(raw, []byte(word)) {
			s.t.Errorf("the log has %q", word)
		}
	}
}
