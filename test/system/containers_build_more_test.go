package system

import (
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestContainerBuildsFromElsewhere: builds that use what is not in their context: an
// SSH agent, the cache in an image of a registry, a git repository.
func TestContainerBuildsFromElsewhere(t *testing.T) {
	d := newDock(t)
	kit := &dock{t: t, cloud: d.cloud, cli: fromDebian(t, "docker.io", "usr/bin/docker")}
	t.Run("agent", func(t *testing.T) { testBuildAgent(t, &dock{t: t, cloud: kit.cloud, cli: kit.cli}) })
	t.Run("inline cache", func(t *testing.T) { testInlineCache(t, &dock{t: t, cloud: kit.cloud, cli: kit.cli}) })
	if d.hasBuildx() { // clients without it have inline caches only
		t.Run("registry cache", func(t *testing.T) { testRegistryCache(t, d) })
	}
	t.Run("git", func(t *testing.T) {
		testGitContext(t, &dock{t: t, cloud: kit.cloud, cli: kit.cli}, true)
		testGitContext(t, &dock{t: t, cloud: d.cloud, cli: d.cli}, false)
	})
}

// testBuildAgent forwards an agent to one instruction.
func testBuildAgent(t *testing.T, d *dock) {
	keys, socket := agent.NewKeyring(), filepath.Join(t.TempDir(), "agent")
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	l := must[net.Listener](t)(net.Listen("unix", socket))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			go func() { _ = agent.ServeAgent(keys, c) }() // until the client is done
		}
	}()
	dir := files(t, map[string]string{"Dockerfile": "FROM busybox\nCOPY keys /bin/keys\nRUN --mount=type=ssh keys > /with\nRUN echo \"$SSH_AUTH_SOCK\" > /without; ls /run/buildkit || true\n"})
	compile := exec.Command("go", "build", "-o", filepath.Join(dir, "keys"), "./testdata/keys")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.mustBuild(true, "--ssh", "default="+socket, "-t", "agent", dir)
	want := ssh.FingerprintSHA256(must[ssh.Signer](t)(ssh.NewSignerFromKey(key)).PublicKey())
	if out := d.must("run", "--rm", "agent", "cat", "/with", "/without"); strings.TrimSpace(out) != want {
		t.Errorf("with an agent of %s: %q", want, out)
	}
	if r := d.build(true, "--no-cache", "-t", "agent", dir); r.code == 0 {
		t.Errorf("without an agent: %+v", r)
	}
	d.must("rmi", "agent")
}

// loggedIn is the region's registry, at which docker has logged in.
func loggedIn(d *dock) (host string) {
	demo := d.cloud.Auth("strata-demo")
	d.must2([]byte(demo["password"]), "login", "-u", "demo/"+demo["username"], "--password-stdin", d.cloud.Listen)
	return d.cloud.Listen
}

const slowFile = "FROM busybox\nRUN echo made once > /made && cat /proc/sys/kernel/random/uuid >> /made\nCOPY x /x\n"

// forget removes what earlier builds have left.
func (d *dock) forget(images ...string) {
	d.must(append([]string{"rmi"}, images...)...)
	d.must("builder", "prune", "-a", "-f")
}

// testInlineCache finds the steps of an image in the registry that was built elsewhere.
func testInlineCache(t *testing.T, d *dock) {
	name := loggedIn(d) + "/demo/cached:1"
	dir := files(t, map[string]string{"Dockerfile": slowFile, "x": "1"})
	d.mustBuild(true, "--build-arg", "BUILDKIT_INLINE_CACHE=1", "-t", name, dir)
	made := d.must("run", "--rm", name, "cat", "/made")
	d.must("push", name)
	d.forget(name)
	out := d.mustBuild(true, "--cache-from", name, "-t", "again", dir)
	if now := d.must("run", "--rm", "again", "cat", "/made"); now != made || !strings.Contains(out, "CACHED") {
		t.Errorf("made %q, and again %q: %s", made, now, out)
	}
	d.forget("again")
	d.mustBuild(true, "-t", "again", dir)
	if now := d.must("run", "--rm", "again", "cat", "/made"); now == made {
		t.Error("without the cache nothing is made anew: the test shows nothing")
	}
	d.forget("again")
}

// testRegistryCache keeps all steps in the registry.
func testRegistryCache(t *testing.T, d *dock) {
	ref := loggedIn(d) + "/demo/cache:steps"
	dir := files(t, map[string]string{"Dockerfile": slowFile, "x": "1"})
	d.must("buildx", "build", "--load", "--cache-to", "type=registry,mode=max,ref="+ref, "-t", "crossed", dir)
	made := d.must("run", "--rm", "crossed", "cat", "/made")
	d.forget("crossed")
	d.must("buildx", "build", "--load", "--cache-from", "type=registry,ref="+ref, "-t", "crossed", dir)
	if now := d.must("run", "--rm", "crossed", "cat", "/made"); now != made {
		t.Errorf("made %q, and again %q", made, now)
	}
	d.forget("crossed")
}

// testGitContext builds from a repository, of a branch and a directory in it.
func testGitContext(t *testing.T, d *dock, kit bool) {
	if _, err := exec.LookPath("git"); err != nil {
		needs.Missing(t, "builds from git need git")
	}
	base := t.TempDir()
	dir := filepath.Join(base, "repo.git")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "empty")
	git("checkout", "-q", "-b", "side")
	for name, text := range map[string]string{"Dockerfile": "FROM busybox\nCOPY x /x\n", "x": "of the side\n"} {
		if err := os.WriteFile(filepath.Join(dir, "sub", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git("add", ".")
	git("commit", "-q", "-m", "the side")
	git("checkout", "-q", "main")
	port := freeTCP(t)
	programs := strings.TrimSpace(string(must[[]byte](t)(exec.Command("git", "--exec-path").Output())))
	// Not by way of git, whose end would leave it.
	serve := exec.Command(filepath.Join(programs, "git-daemon"), "--export-all", "--reuseaddr", "--base-path="+base, "--listen=127.0.0.1", "--port="+port)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
	}()
	d.eventually("git's server", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		return err == nil && c.Close() == nil
	})
	at := "git://127.0.0.1:" + port + "/repo.git"
	d.mustBuild(kit, "-t", "cloned", at+"#side:sub")
	if out := d.must("run", "--rm", "cloned", "cat", "/x"); out != "of the side" {
		t.Errorf("built from git: %q", out)
	}
	if r := d.build(kit, "-t", "cloned", at+"#none:sub"); r.code == 0 {
		t.Errorf("of a branch that is not there: %+v", r)
	}
	d.must("rmi", "cloned")
}
