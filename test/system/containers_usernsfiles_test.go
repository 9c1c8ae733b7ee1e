package system

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// owners are those of the entries of an archive.
func owners(t *testing.T, archive string) map[string]string {
	t.Helper()
	out := map[string]string{}
	r := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(h.Name, "./")] = fmt.Sprintf("%d:%d", h.Uid, h.Gid)
	}
}

// testUsernsCopy has archives have the container's owners, whether it runs or not.
func testUsernsCopy(t *testing.T, d *dock, _ string) {
	d.start("box", "-v", "/vol", "busybox", "sh", "-c", "touch /tmp/r; mkdir /tmp/d; touch /tmp/d/app; busybox chown -R app:app /tmp/d; exec sleep 600")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, id := range map[string]int{"into/root": 0, "into/app": 1000} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Uid: id, Gid: id, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	look := "stat -c %u:%g $D/into $D/into/root $D/into/app"
	copyIn := func(dir string) { d.must2(b.Bytes(), "cp", "-", "box:"+dir) }
	d.eventually("files", func() bool { return d.sh("box", "stat -c %u /tmp/d/app") == "1000" })
	for _, running := range []bool{true, false} {
		if !running {
			d.must("stop", "-t", "0", "box")
		}
		got := owners(t, d.run(nil, "cp", "box:/tmp", "-").out)
		for name, want := range map[string]string{"tmp/r": "0:0", "tmp/d/app": "1000:1000"} {
			if got[name] != want {
				t.Errorf("running %v: %s is of %s, want %s", running, name, got[name], want)
			}
		}
		if got := owners(t, d.run(nil, "export", "box").out); got["bin/busybox"] != "0:0" || got["tmp/d/app"] != "1000:1000" {
			t.Errorf("running %v: exported are the owners %s, %s", running, got["bin/busybox"], got["tmp/d/app"])
		}
		copyIn("/data")
		copyIn("/vol")
		if !running {
			d.must("start", "box")
		}
		d.expect("box", map[string]string{"D=/data; " + look: "0:0\n0:0\n1000:1000", "D=/vol; " + look: "0:0\n0:0\n1000:1000"})
		d.sh("box", "rm -r /data/into /vol/into")
	}
	changed := d.must("diff", "box")
	for _, not := range []string{"/bin", "/proc", "/etc"} {
		if strings.Contains(changed, not+"\n") {
			t.Errorf("%s has not changed: %s", not, changed)
		}
	}
	if !strings.Contains(changed, "A /tmp/d/app") {
		t.Errorf("changes: %s", changed)
	}
}

// testUsernsCommit has images not know of user namespaces, whether they are committed or built.
func testUsernsCommit(t *testing.T, d *dock, _ string) {
	t.Cleanup(func() { d.run(nil, "rmi", "-f", "committed", "built") })
	d.start("box", "busybox", "sh", "-c", "echo more >>/data/seed; mkdir /data/app; touch /data/app/x /data/r; busybox chown -R app:app /data/app; rm /etc/group; touch /data/done; exec sleep 600")
	d.eventually("files", func() bool { return d.sh("box", "stat -c %u /data/done") == "0" })
	d.must("commit", "box", "committed")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM committed\nRUN touch /data/built && busybox chown 7:8 /data/built\nCOPY --chown=app Dockerfile /data/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.mustBuild(false, "-t", "built", dir)
	for _, flags := range [][]string{nil, {"--userns", "host"}} {
		args := append(append([]string{"run", "--rm"}, flags...), "built", "sh", "-c", "stat -c %u:%g /data /data/seed /data/app/x /data/r /data/built /data/Dockerfile; ls /etc/group; cat /data/seed")
		out := d.run(nil, args...)
		if want := "0:0\n0:0\n1000:1000\n0:0\n7:8\n1000:1000\n"; !strings.HasPrefix(out.out, want) || !strings.Contains(out.out, "of the image\nmore") || !strings.Contains(out.errs+out.out, "No such file") {
			t.Errorf("%v: %q, %q, want %q", flags, out.out, out.errs, want)
		}
	}
	// Only what was written is in the layer.
	if size := d.must("history", "--format", "{{.Size}}", "committed"); strings.Contains(strings.SplitN(size, "\n", 2)[0], "MB") {
		t.Errorf("the layers of what was committed: %s", size)
	}
	for image, files := range map[string]string{"committed": "/i/bin/busybox /i/data/app/x", "busybox": "/i/bin/busybox /i/data/seed"} { // of several layers, and of one
		body := fmt.Sprintf(`{"Image":"busybox","Cmd":["sh","-c","stat -c %%u:%%g %s; touch /i/x"],"HostConfig":{"Mounts":[{"Type":"image","Source":%q,"Target":"/i"}]}}`, files, image)
		if code, out := d.ask("POST", "/v1.50/containers/create?name=of-"+image, nil, []byte(body)); code != 201 {
			t.Fatalf("making a container that mounts %s: %d: %s", image, code, out)
		}
		t.Cleanup(func() { d.run(nil, "rm", "-f", "of-"+image) })
		want := map[string]string{"committed": "0:0\n1000:1000\n", "busybox": "0:0\n0:0\n"}[image]
		if r := d.run(nil, "start", "-a", "of-"+image); r.out != want || !strings.Contains(r.errs, "Read-only file system") {
			t.Errorf("the files of the image %s, which is mounted, are of %q (%s), want %q", image, r.out, r.errs, want)
		}
	}
}

// testUsernsLayers has as many layers as dockerd takes work, whose paths make more than a page.
func testUsernsLayers(t *testing.T, d *dock, _ string) {
	t.Cleanup(func() { d.run(nil, "rmi", "-f", "many", "more") })
	dir := t.TempDir()
	text := "FROM busybox\n"
	for i := range 120 {
		text += fmt.Sprintf("COPY Dockerfile /data/%d\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d.slow = true
	d.mustBuild(false, "-t", "many", dir)
	d.slow = false
	d.start("box", "many", "sh", "-c", "echo own >/data/5; echo new >/data/new; rm /data/6; exec sleep 600")
	d.eventually("files", func() bool { return d.sh("box", "ls /data/6 2>&1") == "ls: /data/6: No such file or directory" })
	d.must("commit", "box", "more")
	for _, flags := range [][]string{nil, {"--userns", "host"}} {
		if out := d.must(append(append([]string{"run", "--rm"}, flags...), "more", "sh", "-c", "cat /data/5 /data/new; stat -c %u:%g /data/5 /data/7; ls /data | wc -l")...); out != "own\nnew\n0:0\n0:0\n121" {
			t.Errorf("%v: committed %q", flags, out)
		}
	}
	d.must("stop", "-t", "0", "box")
	if got := owners(t, d.run(nil, "cp", "box:/data", "-").out); len(got) != 122 || got["data/new"] != "0:0" || got["data/7"] != "0:0" {
		t.Errorf("copied are %d: %v", len(got), got)
	}
	mounts := must[[]byte](t)(os.ReadFile("/proc/self/mounts"))
	if id := d.inspect("box", ".Id"); bytes.Contains(mounts, []byte("/containers/"+id)) {
		t.Errorf("what was mounted for docker cp is left: %s", mounts)
	}
}
