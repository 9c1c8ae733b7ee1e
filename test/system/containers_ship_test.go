package system

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainerShipping brings images to the region's registry and back, with an
// unmodified docker.
func TestContainerShipping(t *testing.T) {
	d := newDock(t)
	demo := d.cloud.Auth("strata-demo")
	user, host := "demo/"+demo["username"], d.cloud.Listen
	name := host + "/demo/box:1.0"
	id := d.must("images", "-q", "--no-trunc", "busybox")
	d.must("tag", "busybox", name)

	if r := d.run(nil, "push", name); r.code == 0 || !strings.Contains(r.out+r.errs, "denied") && !strings.Contains(r.out+r.errs, "unauthorized") {
		t.Errorf("a push without a login: %+v", r)
	}
	if r := d.run([]byte("wrong"), "login", "-u", user, "--password-stdin", host); r.code == 0 || !strings.Contains(r.errs, "unauthorized") {
		t.Errorf("a login with a wrong password: %+v", r)
	}
	if out := d.must2([]byte(demo["password"]), "login", "-u", user, "--password-stdin", host); !strings.Contains(out, "Login Succeeded") {
		t.Errorf("login: %q", out)
	}
	pushed := d.must("push", name)
	if !strings.Contains(pushed, ": Pushed") || !strings.Contains(pushed, "1.0: digest: "+id) {
		t.Errorf("push: %s", pushed)
	}
	if again := d.must("push", name); !strings.Contains(again, "Layer already exists") {
		t.Errorf("push again: %s", again)
	}
	d.must("tag", "busybox", host+"/demo/box:2.0")
	if all := d.must("push", "-a", host+"/demo/box"); !strings.Contains(all, "1.0: digest") || !strings.Contains(all, "2.0: digest") {
		t.Errorf("push of all: %s", all)
	}
	d.must("rmi", name, host+"/demo/box:2.0")
	if out := d.must("pull", name); !strings.Contains(out, "Digest: "+id) {
		t.Errorf("pull: %s", out)
	}
	if out := d.must("run", "--rm", name, "cat", "/data/seed"); out != "of the image" {
		t.Errorf("the image that went there and back: %q", out)
	}
	d.must("rmi", name)
	if out := d.must("run", "--rm", "--pull", "always", host+"/demo/box:2.0", "echo", "pulled"); !strings.HasSuffix(out, "pulled") {
		t.Errorf("run with a pull: %q", out)
	}
	if out := d.mustBuild(false, "--pull", "-t", "based", files(t, map[string]string{"Dockerfile": "FROM " + name + "\nRUN cat /data/seed\n"})); !strings.Contains(out, "of the image") {
		t.Errorf("a build from the registry: %s", out)
	}
	testDistribution(t, d, name, id, user, demo["password"])
	d.must("logout", host)
	if r := d.run(nil, "pull", name); r.code == 0 || !strings.Contains(r.errs, "denied") {
		t.Errorf("a pull after logout: %+v", r)
	}
	for args, want := range map[string]string{
		"push nothing/here:1":             "does not exist locally",
		"pull 127.0.0.1:1/a/b:c":          "127.0.0.1:1",
		"login -u a -p b 127.0.0.1:1":     "127.0.0.1:1",
		"search 127.0.0.1:1/something":    "cannot be searched",
		"push " + host + "/demo/none:1.0": "does not exist locally",
	} {
		if r := d.run(nil, strings.Fields(args)...); r.code == 0 || !strings.Contains(r.out+r.errs, want) {
			t.Errorf("docker %s: %+v", args, r)
		}
	}
	testHostileArchives(t, d)
}

func testDistribution(t *testing.T, d *dock, name, id, user, password string) {
	auth := must[[]byte](t)(json.Marshal(map[string]string{"username": user, "password": password}))
	_, raw := d.ask("GET", "/v1.41/distribution/"+name+"/json", http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(auth)}}, nil)
	var v struct {
		Descriptor struct{ Digest, MediaType string }
		Platforms  []struct{ Architecture, OS string }
	}
	if err := json.Unmarshal(raw, &v); err != nil || v.Descriptor.Digest != id || len(v.Platforms) != 1 || v.Platforms[0].OS != "linux" {
		t.Errorf("distribution: %s, %v", raw, err)
	}
}

// testHostileArchives imports and loads what is not meant well.
func testHostileArchives(t *testing.T, d *dock) {
	make := func(heads ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range heads {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		return b.Bytes()
	}
	before := d.must("images", "-aq")
	for what, raw := range map[string][]byte{
		"a name":      make(tar.Header{Name: "../../../../../../../../tmp/escaped-" + d.cloud.Name()}),
		"a hard link": make(tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../../../../../../../etc/shadow"}),
		"a size":      make(tar.Header{Name: "hole", Size: 1 << 50}),
		"nothing":     []byte("no archive"),
	} {
		path := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"import", path, "hostile"}, {"load", "-i", path}} {
			if r := d.run(nil, args...); r.code == 0 {
				t.Errorf("%s, %s: %+v", args[0], what, r)
			}
		}
		if r, _ := d.ask("POST", "/v1.41/build?t=hostile", nil, raw); r < 400 {
			t.Errorf("a build of %s: status %d", what, r)
		}
	}
	if _, err := os.Lstat("/tmp/escaped-" + d.cloud.Name()); !os.IsNotExist(err) {
		t.Errorf("an archive has led out: %v", err)
	}
	if after := d.must("images", "-aq"); after != before {
		t.Errorf("hostile archives have left images: %s", after)
	}
}
