//go:build kube

package system

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// image is one that pods of upstream's tests run, by the name that they give it.
type image struct {
	name   string
	layers []*layer
	user   string
	entry  []string
	cmd    []string
}

// layer is a layer of images, as an archive.
type layer struct {
	tar []byte
	sum string
}

// suiteImages are upstream's test images, made from upstream's programs and Debian's: a
// cloud of tests reaches no registry.
func suiteImages(t *testing.T) []image {
	suite := filepath.Join(filepath.Dir(cloud.Program(t)), "kube-suite")
	base, agnhost := suiteLayer(t, suiteBase), suiteLayer(t, func(t *testing.T, root string) {
		put(t, filepath.Join(suite, "agnhost"), filepath.Join(root, "agnhost"))
		link(t, "agnhost", filepath.Join(root, "agnhost-2"))
		for _, name := range []string{"localhost.crt", "localhost.key"} { // of its server that speaks TLS
			put(t, filepath.Join(suite, name), filepath.Join(root, name))
		}
		for _, name := range []string{"uploads", "var/registry"} {
			directory(t, filepath.Join(root, name))
		}
	})
	host := image{layers: []*layer{base, agnhost}, entry: []string{"/agnhost"}, cmd: []string{"pause"}}
	named := func(i image, name string) image { i.name = "registry.k8s.io/" + name; return i }
	out := []image{
		named(host, "e2e-test-images/agnhost:2.66.1"), named(host, "e2e-test-images/agnhost:2.55"),
		named(image{layers: []*layer{base}, cmd: []string{"sh"}}, "e2e-test-images/busybox:1.37.0-2"),
		named(image{layers: []*layer{base}, cmd: []string{"sh"}}, "e2e-test-images/glibc-dns-testing:2.1.1"),
		named(image{layers: []*layer{base}, cmd: []string{"sh"}, user: "1234"}, "e2e-test-images/nonroot:1.5"),
		named(image{layers: []*layer{base, suiteLayer(t, func(t *testing.T, root string) {
			program := filepath.Join(root, "usr/local/bin/nnp")
			put(t, filepath.Join(suite, "nonewprivs"), program)
			if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
				t.Fatal(err)
			}
		})}, cmd: []string{"nnp"}}, "e2e-test-images/nonewprivs:1.4"),
		named(image{layers: []*layer{suiteLayer(t, func(t *testing.T, root string) {
			put(t, filepath.Join(filepath.Dir(cloud.Program(t)), "strata-pause"), filepath.Join(root, "pause"))
		})}, user: "65535:65535", entry: []string{"/pause"}}, "pause:3.10.2"),
		named(image{layers: []*layer{base, suiteLayer(t, func(t *testing.T, root string) {
			put(t, filepath.Join(suite, "sample-apiserver"), filepath.Join(root, "sample-apiserver"))
		})}, entry: []string{"/sample-apiserver"}}, "e2e-test-images/sample-apiserver:1.29.2"),
		named(image{layers: []*layer{base, suiteLayer(t, func(t *testing.T, root string) {
			put(t, filepath.Join(cloud.Debian(t, "etcd-server"), "usr/bin/etcd"), filepath.Join(root, "usr/local/bin/etcd"))
		})}}, "etcd:3.7.0-0"),
	}
	for _, pet := range []string{"kitten", "nautilus"} {
		page := suiteLayer(t, func(t *testing.T, root string) {
			for _, name := range []string{"data.json", pet + ".jpg"} {
				put(t, filepath.Join(suite, pet, name), filepath.Join(root, name))
			}
		})
		out = append(out, named(image{layers: []*layer{base, agnhost, page}, entry: []string{"/agnhost"}, cmd: []string{"test-webserver"}}, "e2e-test-images/"+pet+":1.8"))
	}
	web := suiteLayer(t, suiteNginx)
	for _, tag := range []string{"1.27.0-2", "1.28.0-2"} {
		out = append(out, named(image{layers: []*layer{base, web}, cmd: []string{"nginx", "-g", "daemon off;"}}, "e2e-test-images/nginx:"+tag))
	}
	return out
}

// smallBase is a system of busybox's programs.
func smallBase(t *testing.T, root string) {
	for _, dir := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "var/tmp", "usr/local/bin"} {
		directory(t, filepath.Join(root, dir))
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(root, dir), 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\nnginx:x:101:101::/:/bin/false\n")
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\nnginx:x:101:\n")
	busybox := filepath.Join(cloud.Debian(t, "busybox-static"), "bin/busybox")
	put(t, busybox, filepath.Join(root, "bin/busybox"))
	for name := range strings.FieldsSeq(string(must[[]byte](t)(exec.Command(busybox, "--list").Output()))) {
		if name != "busybox" {
			link(t, "busybox", filepath.Join(root, "bin", name))
		}
	}
}

// suiteBase is a system with the tools that tests call in their pods.
func suiteBase(t *testing.T, root string) {
	smallBase(t, root)
	for _, program := range []string{"curl", "dig", "nslookup", "nc.openbsd", "bash", "ip", "getent"} {
		path := must[string](t)(exec.LookPath(program))
		putWithLibraries(t, path, root, filepath.Join("usr/bin", strings.TrimSuffix(program, ".openbsd")))
	}
	for _, name := range []string{"nslookup", "nc", "ip", "sh"} { // busybox's sh runs its own programs, whatever PATH says, and drops variables such as data-1
		if err := os.Remove(filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "../usr/bin/bash", filepath.Join(root, "bin/sh"))
}

// suiteNginx is Debian's nginx with a page.
func suiteNginx(t *testing.T, root string) {
	putWithLibraries(t, filepath.Join(cloud.Debian(t, "nginx"), "usr/sbin/nginx"), root, "usr/sbin/nginx")
	for _, dir := range []string{"var/log/nginx", "var/lib/nginx", "run", "etc/nginx"} {
		directory(t, filepath.Join(root, dir))
	}
	write(t, filepath.Join(root, "etc/nginx/nginx.conf"), "events {}\nerror_log stderr;\nhttp { access_log /dev/stdout; server { listen 80; root /usr/share/nginx/html; } }\n")
	write(t, filepath.Join(root, "usr/share/nginx/html/index.html"), "<title>Welcome to nginx!</title>\n")
}

func directory(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	directory(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// put copies a program.
func put(t *testing.T, from, to string) {
	t.Helper()
	directory(t, filepath.Dir(to))
	if err := os.WriteFile(to, must[[]byte](t)(os.ReadFile(from)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// library is a line of ldd that names a file.
var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// putWithLibraries copies a program with what it is linked with.
func putWithLibraries(t *testing.T, from, root, to string) {
	t.Helper()
	put(t, from, filepath.Join(root, to))
	for _, m := range library.FindAllStringSubmatch(string(must[[]byte](t)(exec.Command("ldd", from).Output())), -1) {
		put(t, m[1], filepath.Join(root, m[1]))
	}
}

// suiteLayer archives what fill makes.
func suiteLayer(t *testing.T, fill func(t *testing.T, root string)) *layer {
	t.Helper()
	root := t.TempDir()
	fill(t, root)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to, _ := os.Readlink(path) // "" of what is no link
		h, err := tar.FileInfoHeader(info, to)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.Uname, h.Gname = strings.TrimPrefix(path, root+"/"), 0, 0, "", ""
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		if err == nil {
			_, err = w.Write(body)
		}
		return err
	})
	if err := cmp.Or(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(out.Bytes())
	return &layer{tar: out.Bytes(), sum: hex.EncodeToString(sum[:])}
}

// archive writes images as docker save does, each layer once.
func archive(t *testing.T, path string, images []image) {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	file := func(name string, body []byte) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		must[int](t)(w.Write(body))
	}
	var written []string
	var manifest []map[string]any
	for _, i := range images {
		var names, sums []string
		for _, l := range i.layers {
			names, sums = append(names, l.sum+".tar"), append(sums, "sha256:"+l.sum)
			if !slices.Contains(written, l.sum) {
				file(l.sum+".tar", l.tar)
				written = append(written, l.sum)
			}
		}
		config := must[[]byte](t)(json.Marshal(map[string]any{"architecture": runtime.GOARCH, "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": sums},
			"config": map[string]any{"User": i.user, "Entrypoint": i.entry, "Cmd": i.cmd, "Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}}))
		sum := sha256.Sum256(append(config, i.name...))
		name := hex.EncodeToString(sum[:]) + ".json"
		file(name, config)
		manifest = append(manifest, map[string]any{"Config": name, "RepoTags": []string{i.name}, "Layers": names})
	}
	file("manifest.json", must[[]byte](t)(json.Marshal(manifest)))
	if err := cmp.Or(w.Close(), os.WriteFile(path, out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}
