package system

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
)

// files makes a directory of them.
func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// build runs docker build by the classic way, or by BuildKit's.
func (d *dock) build(kit bool, args ...string) result {
	d.t.Helper()
	cmd := d.command(append([]string{"build"}, args...)...)
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=0")
	if kit {
		cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain")
	}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		d.t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// mustBuild builds, and gives all that was told.
func (d *dock) mustBuild(kit bool, args ...string) string {
	d.t.Helper()
	r := d.build(kit, args...)
	if r.code != 0 {
		d.t.Fatalf("docker build %s: exit %d: %s%s", strings.Join(args, " "), r.code, r.out, r.errs)
	}
	return r.out + r.errs
}

// TestContainerBuilds makes images with an unmodified docker, by both of its ways.
func TestContainerBuilds(t *testing.T) {
	d := newDock(t)
	classic := &dock{t: t, cloud: d.cloud, cli: d.cli}
	// The last client that speaks BuildKit without a plugin is Debian's.
	kit := &dock{t: t, cloud: d.cloud, cli: fromDebian(t, "docker.io", "usr/bin/docker")}
	for name, test := range map[string]func(*testing.T, *dock, bool){
		"stages": testBuildStages, "failure": testBuildFailure, "arguments": testBuildArguments, "confinement": testBuildConfinement, "remote": testBuildRemote,
	} {
		t.Run(name+", classic", func(t *testing.T) { test(t, &dock{t: t, cloud: classic.cloud, cli: classic.cli}, false) })
		t.Run(name+", BuildKit", func(t *testing.T) { test(t, &dock{t: t, cloud: kit.cloud, cli: kit.cli}, true) })
	}
	t.Run("mounts", func(t *testing.T) { testBuildMounts(t, &dock{t: t, cloud: kit.cloud, cli: kit.cli}) })
	if d.hasBuildx() { // an extra: what it speaks is spoken by the clients above, too
		t.Run("buildx", func(t *testing.T) { testBuildx(t, d) })
	}
	t.Run("commit", func(t *testing.T) { testCommit(t, &dock{t: t, cloud: d.cloud, cli: d.cli}) })
	t.Run("crash", func(t *testing.T) { testBuildCrash(t, &dock{t: t, cloud: d.cloud, cli: d.cli}) })
	t.Run("cache", func(t *testing.T) { testBuildCache(t, &dock{t: t, cloud: d.cloud, cli: d.cli}) })
}

// sameTime changes a file and keeps its time.
func sameTime(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	fi := must[os.FileInfo](t)(os.Stat(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, fi.ModTime(), fi.ModTime()); err != nil {
		t.Fatal(err)
	}
}

const stages = `FROM busybox AS compile
ENV MODE=fast
WORKDIR /src
COPY main .
RUN cat main > /program && echo compiled $MODE >> /program
RUN echo more >> /program
FROM busybox
LABEL made=here
COPY --from=compile /program /bin/program
RUN cat /bin/program
CMD ["cat", "/bin/program"]
`

var cachedRE = regexp.MustCompile(`Using cache|CACHED`)

func testBuildStages(t *testing.T, d *dock, kit bool) {
	dir := files(t, map[string]string{"Dockerfile": stages, "main": "source of " + t.Name() + "\n", "left/out": "no", ".dockerignore": "left\n"})
	first := d.mustBuild(kit, "-t", "staged", dir)
	if !strings.Contains(first, "compiled fast") {
		t.Errorf("what an instruction prints is missing: %s", first)
	}
	if !kit && (!strings.Contains(first, "Step 11/11 : CMD") || !strings.Contains(first, "Successfully tagged staged:latest")) {
		t.Errorf("not as the classic builder tells of it: %s", first)
	}
	want := "source of " + t.Name() + "\ncompiled fast\nmore"
	if out := d.must("run", "--rm", "staged"); out != want {
		t.Errorf("the image prints %q", out)
	}
	id := d.must("images", "-q", "--no-trunc", "staged")
	second := d.mustBuild(kit, "-t", "staged", dir)
	if n := len(cachedRE.FindAllString(second, -1)); n < 5 {
		t.Errorf("%d steps of the second build come from the cache: %s", n, second)
	}
	if got := d.must("images", "-q", "--no-trunc", "staged"); got != id {
		t.Errorf("the second build made %s, the first %s", got, id)
	}
	if out := d.must("inspect", "--format", `{{.Config.Labels.made}}`, "staged"); out != "here" {
		t.Errorf("label: %q", out)
	}
	changed := strings.Replace(want, "source", "SOURCE", 1)
	sameTime(t, dir, "main", strings.Split(changed, "\n")[0]+"\n")
	d.mustBuild(kit, "-t", "changed", dir)
	if out := d.must("run", "--rm", "changed"); !kit && out != changed { // BuildKit's clients compare sizes and times
		t.Errorf("from a file that has changed within its second: %q", out)
	}
	d.must("rmi", "changed")
	archive := filepath.Join(t.TempDir(), "saved.tar")
	d.must("save", "-o", archive, "staged")
	d.must("rmi", "staged")
	d.must("load", "-i", archive)
	if out := d.must("run", "--rm", "staged"); out != want {
		t.Errorf("saved and loaded, the image prints %q", out)
	}
	if r := d.build(kit, "-q", dir); !strings.HasPrefix(r.out, "sha256:") || strings.Count(r.out, "\n") != 1 {
		t.Errorf("-q: %+v", r)
	}
	d.must("rmi", "staged")
}

func testBuildFailure(t *testing.T, d *dock, kit bool) {
	images := d.must("images", "-aq")
	for text, want := range map[string]struct {
		message string
		code    int // of the classic way
	}{
		"FROM busybox\nRUN echo first; exit 7":     {"7", 7},
		"FROM busybox\nCOPY nothing /":             {"nothing", 1},
		"FROM busybox\nNONSENSE x":                 {"unknown instruction", 1},
		"FROM 127.0.0.1:1/none:such\nRUN true":     {"127.0.0.1:1/none:such", 1},
		"FROM busybox\nRUN /no/such/program x":     {"127", 127},
		"FROM busybox AS one\nCOPY --from=two / /": {"two", 1},
	} {
		r := d.build(kit, "-t", "failed", files(t, map[string]string{"Dockerfile": text}))
		if r.code == 0 || !kit && r.code != want.code || !strings.Contains(r.out+r.errs, want.message) {
			t.Errorf("%q: %+v", text, r)
		}
	}
	if r := d.build(kit, "--target", "nothing", files(t, map[string]string{"Dockerfile": "FROM busybox"})); r.code == 0 || !strings.Contains(r.errs, "nothing") {
		t.Errorf("no such target: %+v", r)
	}
	if r := d.build(kit, "-f", "/dev/null", files(t, map[string]string{"x": ""})); r.code == 0 {
		t.Errorf("an empty Dockerfile: %+v", r)
	}
	if got := d.must("images", "-aq"); got != images {
		t.Errorf("failed builds have left images: %s", got)
	}
}

func testBuildArguments(t *testing.T, d *dock, kit bool) {
	dir := files(t, map[string]string{"sub/other.docker": "FROM busybox AS one\nARG WORD\nRUN echo $WORD > /word; grep -c twin /etc/hosts > /hosts || true\nFROM one AS two\nRUN false\n"})
	d.mustBuild(kit, "-f", filepath.Join(dir, "sub/other.docker"), "--target", "one", "--build-arg", "WORD=said", "--label", "l=v", "--add-host", "twin:10.1.2.3", "-t", "args:1", "-t", "args:2", dir)
	if out := d.must("run", "--rm", "args:2", "cat", "/word", "/hosts"); out != "said\n1" {
		t.Errorf("the image has %q", out)
	}
	if out := d.must("inspect", "--format", "{{.Config.Labels.l}} {{len .RepoTags}}", "args:1"); out != "v 2" {
		t.Errorf("label and names: %q", out)
	}
	again := d.mustBuild(kit, "--no-cache", "-f", filepath.Join(dir, "sub/other.docker"), "--target", "one", "--build-arg", "WORD=anew", "-t", "args:1", dir)
	if cachedRE.MatchString(strings.ReplaceAll(again, "[internal]", "")) && !kit {
		t.Errorf("without the cache: %s", again)
	}
	if out := d.must("run", "--rm", "args:1", "cat", "/word"); out != "anew" {
		t.Errorf("built anew: %q", out)
	}
	d.must("rmi", "args:1", "args:2")
}

// testBuildConfinement has a build look for the host.
func testBuildConfinement(t *testing.T, d *dock, kit bool) {
	host := must[string](t)(os.Hostname())
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := "FROM busybox\nRUN if cat " + secret + " || cat /proc/1/root" + secret + "; then exit 9; fi\n" +
		"RUN ps > /procs; hostname > /name; ip -4 -o addr show > /addrs; mount -t tmpfs none /tmp && exit 9; dd if=/proc/kcore of=/dev/null bs=1 count=1 && exit 9; echo b > /proc/sysrq-trigger && exit 9; true\n"
	dir := files(t, map[string]string{"Dockerfile": text})
	d.mustBuild(kit, "-t", "confined", dir)
	if out := d.must("run", "--rm", "confined", "grep", "-c", "", "/procs"); len(out) > 1 {
		t.Errorf("a build sees %s processes", out)
	}
	if out := d.must("run", "--rm", "confined", "cat", "/name", "/addrs"); strings.HasPrefix(out, host+"\n") || strings.Count(out, "inet") != 2 {
		t.Errorf("a build is on %q", out)
	}
	d.mustBuild(kit, "--network", "none", "-t", "confined", files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN ip -4 -o addr show > /addrs"}))
	if r := d.run(nil, "run", "--rm", "confined", "grep", "-c", "eth0", "/addrs"); r.out != "0\n" {
		t.Errorf("without a network: %+v", r)
	}
	d.mustBuild(kit, "--network", "host", "-t", "confined", files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN ip -o link show > /links"}))
	links := must[[]byte](t)(exec.Command("ip", "-o", "link", "show").Output())
	if out := d.must("run", "--rm", "confined", "cat", "/links"); strings.Count(out, "\n")+1 < strings.Count(string(links), "\n")/2 {
		t.Errorf("on the host's network: %s", out)
	}
	d.must("rmi", "confined")
}

// testBuildRemote asks for contexts of other places.
func testBuildRemote(t *testing.T, d *dock, kit bool) {
	for _, at := range []string{"http://127.0.0.1:1/context.tar", "https://127.0.0.1:1/x.git"} {
		if r := d.build(kit, at); r.code == 0 || !strings.Contains(r.errs, "127.0.0.1:1") {
			t.Errorf("%s: %+v", at, r)
		}
	}
}

func testBuildMounts(t *testing.T, d *dock) {
	dir := files(t, map[string]string{"key": "classified\n", "Dockerfile": `FROM busybox
RUN --mount=type=secret,id=key cat /run/secrets/key > /length && grep -c classified /length > /count && echo > /length
RUN --mount=type=cache,target=/cache echo x >> /cache/lines; grep -c x /cache/lines > /lines
ARG TURN
RUN --mount=type=cache,target=/cache echo x$TURN >> /cache/lines; grep -c x /cache/lines > /lines
RUN --mount=type=tmpfs,target=/t touch /t/x
`})
	d.mustBuild(true, "--secret", "id=key,src="+filepath.Join(dir, "key"), "-t", "mounted", dir)
	if out := d.must("run", "--rm", "mounted", "cat", "/count", "/lines"); out != "1\n2" {
		t.Errorf("secret and cache: %q", out)
	}
	d.mustBuild(true, "--secret", "id=key,src="+filepath.Join(dir, "key"), "--build-arg", "TURN=2", "-t", "mounted", dir)
	if out := d.must("run", "--rm", "mounted", "cat", "/lines"); out != "3" {
		t.Errorf("the cache's third line: %q", out)
	}
	if r := d.run(nil, "run", "--rm", "mounted", "ls", "/run/secrets/key", "/cache/lines"); r.code == 0 || r.out != "" {
		t.Errorf("what was mounted is in the image: %+v", r)
	}
	d.must("rmi", "mounted")
	out := t.TempDir()
	d.mustBuild(true, "-o", out, files(t, map[string]string{"Dockerfile": "FROM scratch\nCOPY x /got/x", "x": "exported\n"}))
	if raw, err := os.ReadFile(filepath.Join(out, "got/x")); err != nil || string(raw) != "exported\n" {
		t.Errorf("exported %q, %v", raw, err)
	}
}

// hasBuildx tells whether docker has the plugin.
func (d *dock) hasBuildx() bool { return d.run(nil, "buildx", "version").code == 0 }

func testBuildx(t *testing.T, d *dock) {
	dir := files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN echo x > /x\n"})
	d.must("buildx", "build", "--load", "-t", "crossed", dir)
	if out := d.must("run", "--rm", "crossed", "cat", "/x"); out != "x" {
		t.Errorf("built by buildx: %q", out)
	}
	d.must("rmi", "crossed")
}

func testCommit(t *testing.T, d *dock) {
	d.must("run", "--name", "worked", "-e", "A=b", "busybox", "sh", "-c", "echo done > /result")
	defer d.must("rm", "-f", "worked")
	id := d.must("commit", "-m", "by hand", "-a", "someone", "-c", `CMD ["cat","/result"]`, "-c", "ENV C=d", "worked", "kept:v1")
	if out := d.must("run", "--rm", "kept:v1"); out != "done" {
		t.Errorf("the image prints %q", out)
	}
	if out := d.must("run", "--rm", "kept:v1", "sh", "-c", "echo $A $C $FROM"); out != "b d image" {
		t.Errorf("the image's environment: %q", out)
	}
	if out := d.must("inspect", "--format", "{{.Id}} {{.Author}} {{.Comment}}", "kept:v1"); out != id+" someone by hand" {
		t.Errorf("the image: %s", out)
	}
	d.must("run", "-d", "--name", "busy", "busybox", "sh", "-c", "echo half > /half; sleep 600")
	defer d.must("rm", "-f", "busy")
	d.eventually("the file", func() bool { return d.run(nil, "exec", "busy", "ls", "/half").code == 0 })
	d.must("commit", "busy", "kept:v2")
	if s := d.inspect("busy", ".State.Status"); s != "running" {
		t.Errorf("after the commit the container is %s", s)
	}
	if out := d.must("run", "--rm", "kept:v2", "cat", "/half"); out != "half" {
		t.Errorf("of a running container: %q", out)
	}
	if r := d.run(nil, "commit", "nothing", "kept:v3"); r.code == 0 || !strings.Contains(r.errs, "No such container") {
		t.Errorf("of nothing: %+v", r)
	}
	if r := d.run(nil, "commit", "-c", "RUN x", "busy", "kept:v3"); r.code == 0 || !strings.Contains(r.errs, "not a valid change command") {
		t.Errorf("a bad change: %+v", r)
	}
	d.must("rmi", "kept:v1", "kept:v2")
}

// testBuildCrash kills strata in the middle of a build.
func testBuildCrash(t *testing.T, d *dock) {
	mark := "3599.7"
	cmd := d.command("build", files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN echo begun && sleep " + mark + "\n"}))
	cmd.Env = append(cmd.Env, "DOCKER_BUILDKIT=0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sleeping := func() bool {
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			if raw, _ := os.ReadFile(p); strings.HasPrefix(string(raw), "sleep\x00"+mark) {
				return true
			}
		}
		return false
	}
	d.eventually("the build to sleep", sleeping)
	d.cloud.Kill()
	cmd.Wait()
	d.cloud.Up()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, "the build's process to end", 20*time.Millisecond, func(context.Context) (bool, error) { return !sleeping(), nil }); err != nil {
		t.Error(err)
	}
	if out := d.mustBuild(false, "-t", "after", files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN echo still here\n"})); !strings.Contains(out, "still here") {
		t.Errorf("a build afterwards: %s", out)
	}
	d.must("rmi", "after")
}

func testBuildCache(t *testing.T, d *dock) {
	d.mustBuild(false, "-t", "cached", files(t, map[string]string{"Dockerfile": "FROM busybox\nRUN echo x > /x\n"}))
	df := func() string { return d.must("system", "df", "--format", "{{.Type}} {{.TotalCount}}") }
	if out := df(); !strings.Contains(out, "Build Cache") || strings.Contains(out, "Build Cache 0") {
		t.Errorf("df: %s", out)
	}
	d.must("builder", "prune", "-af")
	if out := d.must("run", "--rm", "cached", "cat", "/x"); out != "x" {
		t.Errorf("without the cache the image prints %q", out)
	}
	d.must("rmi", "cached")
	d.must("builder", "prune", "-af")
	if out := df(); !strings.Contains(out, "Build Cache 0") {
		t.Errorf("df after prune: %s", out)
	}
}
