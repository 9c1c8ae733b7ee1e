package system

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ociArchive is an archive of an image for several platforms, as OCI has it.
type ociArchive struct {
	t     *testing.T
	out   bytes.Buffer
	files *tar.Writer
}

func (l *ociArchive) file(name string, data []byte) {
	l.t.Helper()
	must[int](l.t)(len(data), l.files.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}))
	must[int](l.t)(l.files.Write(data))
}

// blob adds one and describes it.
func (l *ociArchive) blob(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	data, ok := v.([]byte)
	if !ok {
		data = must[[]byte](l.t)(json.Marshal(v))
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	l.file("blobs/sha256/"+d.Digest.Encoded(), data)
	return d
}

// manyPlatforms is an image named many:1 with a file /arch, and an attestation.
func manyPlatforms(t *testing.T, archs ...string) []byte {
	t.Helper()
	l := &ociArchive{t: t}
	l.files = tar.NewWriter(&l.out)
	l.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	ix.SchemaVersion = 2
	for _, arch := range archs {
		var layer bytes.Buffer
		tw := tar.NewWriter(&layer)
		fmt.Fprint(tw, must[string](t)(arch, tw.WriteHeader(&tar.Header{Name: "arch", Mode: 0o644, Size: int64(len(arch))})))
		tw.Close()
		p := ocispec.Platform{OS: "linux", Architecture: arch}
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{l.blob(ocispec.MediaTypeImageLayer, layer.Bytes())}}
		m.SchemaVersion = 2
		m.Config = l.blob(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p, Config: ocispec.ImageConfig{Cmd: []string{"/" + arch}, Labels: map[string]string{"arch": arch}},
			RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer.Bytes())}}, History: []ocispec.History{{CreatedBy: "made for " + arch}}})
		d := l.blob(ocispec.MediaTypeImageManifest, m)
		d.Platform = &p
		ix.Manifests = append(ix.Manifests, d)
	}
	about := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: l.blob(ocispec.MediaTypeImageConfig, map[string]any{"architecture": "unknown", "os": "unknown"}),
		Layers: []ocispec.Descriptor{l.blob("application/vnd.in-toto+json", map[string]any{"statement": true})}}
	about.SchemaVersion = 2
	d := l.blob(ocispec.MediaTypeImageManifest, about)
	d.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": ix.Manifests[0].Digest.String()}
	ix.Manifests = append(ix.Manifests, d)
	top := l.blob(ocispec.MediaTypeImageIndex, ix)
	top.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/many:1", ocispec.AnnotationRefName: "1"}
	outer := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top}}
	outer.SchemaVersion = 2
	l.file("index.json", must[[]byte](t)(json.Marshal(outer)))
	l.files.Close()
	return l.out.Bytes()
}

// shown is what the tests read of images.
type shown struct {
	ID         string `json:"Id"`
	Config     map[string]any
	Descriptor *ocispec.Descriptor
	Manifests  []struct {
		ID        string
		Available bool
		Kind      string
		ImageData *struct {
			Platform   ocispec.Platform
			Containers []string
			Size       struct{ Unpacked int64 }
		}
		AttestationData *struct{ For string }
		Size            struct{ Content, Total int64 }
	}
}

// get reads an answer of the engine.
func (d *dock) get(path string, v any) {
	d.t.Helper()
	code, body := d.ask("GET", path, nil, nil)
	if code != 200 {
		d.t.Fatalf("%s: %d %s", path, code, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		d.t.Fatalf("%s: %v: %s", path, err, body)
	}
}

func platformOf(arch string) string {
	return url.QueryEscape(`{"os":"linux","architecture":"` + arch + `"}`)
}

// TestPlatforms is about images for several machines, in the versions of the API that know
// of them and in those that do not.
func TestPlatforms(t *testing.T) {
	d := newDock(t)
	archive := manyPlatforms(t, "amd64", "arm64")
	if code, body := d.ask("POST", "/v1.50/images/load?quiet=1", nil, archive); code != 200 || !strings.Contains(string(body), "Loaded image: many:1") {
		t.Fatalf("load: %d %s", code, body)
	}
	var all, plain, old shown
	d.get("/v1.50/images/many:1/json?manifests=1", &all)
	d.get("/v1.50/images/many:1/json", &plain)
	d.get("/v1.47/images/many:1/json?manifests=1&platform="+platformOf("arm64"), &old)
	if len(all.Manifests) != 3 || plain.Manifests != nil || old.Manifests != nil || old.Descriptor != nil || plain.Descriptor == nil || old.ID != all.ID {
		t.Fatalf("inspection: %+v %+v %+v", all, plain, old)
	}
	for n, m := range all.Manifests {
		switch {
		case n < 2 && (m.Kind != "image" || !m.Available || m.ImageData.Platform.Architecture != []string{"amd64", "arm64"}[n] || m.Size.Content == 0):
			t.Errorf("manifest %d: %+v", n, m)
		case n == 2 && (m.Kind != "attestation" || m.AttestationData.For != all.Manifests[0].ID):
			t.Errorf("the attestation: %+v", m)
		}
	}
	if all.Manifests[0].ImageData.Size.Unpacked == 0 || all.Manifests[1].ImageData.Size.Unpacked != 0 {
		t.Errorf("this machine's part alone is unpacked: %+v", all.Manifests)
	}
	var arm shown
	d.get("/v1.50/images/many:1/json?platform="+platformOf("arm64"), &arm)
	if arm.ID != all.Manifests[1].ID || arm.Config["Labels"].(map[string]any)["arch"] != "arm64" || arm.Descriptor.Digest.String() != arm.ID {
		t.Errorf("of arm64: %+v", arm)
	}
	for path, want := range map[string]int{
		"/v1.50/images/many:1/json?platform=" + platformOf("s390x"):             404,
		"/v1.50/images/many:1/json?manifests=1&platform=" + platformOf("arm64"): 400,
		"/v1.50/images/many:1/json?platform=linux":                              400,
		"/v1.50/images/many:1/history?platform=" + platformOf("s390x"):          404,
		"/v1.50/images/many:1/get?platform=" + platformOf("s390x"):              404,
		"/v1.47/images/many:1/get?platform=" + platformOf("s390x"):              200,
		"/v1.48/images/many:1/get?platform=a&platform=b":                        400,
	} {
		if code, body := d.ask("GET", path, nil, nil); code != want {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	var steps []struct{ CreatedBy string }
	if d.get("/v1.50/images/many:1/history?platform="+platformOf("arm64"), &steps); len(steps) != 1 || steps[0].CreatedBy != "made for arm64" {
		t.Errorf("history of arm64: %v", steps)
	}
	var listed []shown
	if d.get(`/v1.50/images/json?manifests=1&filters={"reference":["many"]}`, &listed); len(listed) != 1 || len(listed[0].Manifests) != 3 || listed[0].Descriptor == nil {
		t.Errorf("the list: %+v", listed)
	}
	d.shipPlatforms(archive)
	d.pushPlatform(all)
	d.removePlatforms(all)
}

// shipPlatforms saves one part, and loads one.
func (d *dock) shipPlatforms(archive []byte) {
	t := d.t
	code, one := d.ask("GET", "/v1.50/images/many:1/get?platform="+platformOf("arm64"), nil, nil)
	_, whole := d.ask("GET", "/v1.50/images/many:1/get", nil, nil)
	if code != 200 || !bytes.Contains(one, []byte("made for arm64")) || bytes.Contains(one, []byte("made for amd64")) {
		t.Errorf("the archive of arm64: %d, %d bytes", code, len(one))
	}
	if !bytes.Contains(whole, []byte("made for arm64")) || !bytes.Contains(whole, []byte("made for amd64")) {
		t.Errorf("the archive of all has %d bytes", len(whole))
	}
	d.must("rmi", "many:1")
	if code, body := d.ask("POST", "/v1.50/images/load?platform="+platformOf("s390x"), nil, archive); code != 404 {
		t.Errorf("load of what is not in it: %d %s", code, body)
	}
	if d.run(nil, "image", "inspect", "many:1").code == 0 {
		t.Error("an archive without the platform has left an image")
	}
	if code, body := d.ask("POST", "/v1.50/images/load?platform="+platformOf("arm64"), nil, archive); code != 200 || !strings.Contains(string(body), "Loaded image: many:1") {
		t.Errorf("load of arm64: %d %s", code, body)
	}
	if code, body := d.ask("POST", "/v1.50/images/load", nil, whole); code != 200 {
		t.Errorf("load of all: %d %s", code, body)
	}
}

// pushPlatform brings the part for one platform to the region's registry.
func (d *dock) pushPlatform(all shown) {
	t := d.t
	demo, name := d.cloud.Auth("strata-demo"), d.cloud.Listen+"/demo/many"
	d.must("tag", "many:1", name+":1")
	auth := must[[]byte](t)(json.Marshal(map[string]string{"username": "demo/" + demo["username"], "password": demo["password"], "serveraddress": d.cloud.Listen}))
	head := http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(auth)}}
	push := func(arch string) (int, string) {
		code, body := d.ask("POST", "/v1.50/images/"+name+"/push?tag=1&platform="+platformOf(arch), head, nil)
		return code, string(body)
	}
	if code, body := push("arm64"); code != 200 || !strings.Contains(body, "1: digest: "+all.Manifests[1].ID) {
		t.Errorf("push of arm64: %d %s", code, body)
	}
	if code, body := push("s390x"); !strings.Contains(body, "does not provide the specified platform") {
		t.Errorf("push of what is not there: %d %s", code, body)
	}
	d.must("rmi", name+":1")
}

// removePlatforms removes the content for one platform.
func (d *dock) removePlatforms(all shown) {
	t := d.t
	path := "/v1.50/images/many:1?platforms=" + platformOf("arm64")
	if code, body := d.ask("DELETE", path, nil, nil); code != 400 {
		t.Errorf("without force: %d %s", code, body)
	}
	if code, body := d.ask("DELETE", "/v1.50/images/many:1?force=1&platforms="+platformOf("s390x"), nil, nil); code != 404 {
		t.Errorf("of another platform: %d %s", code, body)
	}
	if code, body := d.ask("DELETE", path+"&force=1", nil, nil); code != 200 || !strings.Contains(string(body), all.Manifests[1].ID) {
		t.Errorf("delete: %d %s", code, body)
	}
	var left shown
	d.get("/v1.50/images/many:1/json?manifests=1", &left)
	if left.ID != all.ID || !left.Manifests[0].Available || left.Manifests[1].Available {
		t.Errorf("what is left: %+v", left)
	}
	if code, _ := d.ask("GET", "/v1.50/images/many:1/json?platform="+platformOf("arm64"), nil, nil); code != http.StatusNotFound {
		t.Errorf("what was removed is found: %d", code)
	}
	id := d.must("create", "many:1")
	var c struct{ ImageManifestDescriptor *ocispec.Descriptor }
	d.get("/v1.50/containers/"+id+"/json", &c)
	if c.ImageManifestDescriptor == nil || c.ImageManifestDescriptor.Digest.String() != all.Manifests[0].ID || c.ImageManifestDescriptor.Platform.Architecture != "amd64" {
		t.Errorf("the container's manifest: %+v", c.ImageManifestDescriptor)
	}
	d.get("/v1.50/images/many:1/json?manifests=1", &left)
	if got := left.Manifests[0].ImageData.Containers; len(got) != 1 || got[0] != id {
		t.Errorf("containers of the part: %v", got)
	}
	d.must("rm", id)
}

// TestImageMounts mounts images into containers.
func TestImageMounts(t *testing.T) {
	d := newDock(t)
	d.must("tag", "busybox", "data:1")
	body := []byte(`{"Image":"busybox","Cmd":["sh","-c","cat /m/seed; echo x > /m/new || echo refused; while :; do sleep 0.1; done"],"HostConfig":{"Mounts":[{"Type":"image","Source":"data:1","Target":"/m","ImageOptions":{"Subpath":"data"}}]}}`)
	if code, out := d.ask("POST", "/v1.47/containers/create?name=mounted", nil, body); code != 400 || !strings.Contains(string(out), "1.48") {
		t.Errorf("in 1.47: %d %s", code, out)
	}
	if code, out := d.ask("POST", "/v1.48/containers/create?name=mounted", nil, body); code != 201 {
		t.Fatalf("in 1.48: %d %s", code, out)
	}
	for range 2 { // the mount is there at every start
		d.must("start", "mounted")
		d.eventually("the container to have looked", func() bool { return strings.Contains(d.run(nil, "logs", "mounted").out, "refused") })
		if got := d.must("exec", "mounted", "cat", "/m/seed"); got != "of the image" {
			t.Errorf("in the mount: %q", got)
		}
		d.must("kill", "mounted")
	}
	if got := d.inspect("mounted", "(index .Mounts 0).Type"); got != "image" {
		t.Errorf("the mount is of type %q", got)
	}
	d.must("run", "--rm", "--volumes-from", "mounted", "busybox", "cat", "/m/seed")
	for where, bad := range map[string]string{"No such image": `"Source":"nothing"`, "Source must not be empty": `"Source":""`, "subpath must be": `"Source":"busybox","ImageOptions":{"Subpath":"../x"}`} {
		code, out := d.ask("POST", "/v1.50/containers/create", nil, []byte(`{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"image","Target":"/m",`+bad+`}]}}`))
		if code != 400 || !strings.Contains(string(out), where) {
			t.Errorf("%s: %d %s", bad, code, out)
		}
	}
	d.must("rm", "-f", "mounted")
	d.eventually("images to be unmounted, as they are after the answer", func() bool {
		return !strings.Contains(string(must[[]byte](t)(os.ReadFile("/proc/self/mounts"))), d.cloud.Dir+"/containers/containers/")
	})
}
