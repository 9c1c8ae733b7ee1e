package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
	"github.com/strata-cloud/strata/test/hosts"
)

// What the application is built from: Debian's Go with a client of PostgreSQL, and
// PostgreSQL with what its programs are linked with.
var (
	buildPackages    = strings.Fields("golang-1.19-go golang-1.19-src golang-github-lib-pq-dev libc6")
	databasePackages = strings.Fields("postgresql-15 postgresql-client-15 libpq5 libc6 libgcc-s1 libstdc++6 libicu72 libssl3 libldap-2.5-0 libsasl2-2 libgssapi-krb5-2 libkrb5-3 libkrb5support0 libk5crypto3 libcom-err2 " +
		"libkeyutils1 liblz4-1 libzstd1 libpam0g libaudit1 libcap-ng0 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblzma5 libxml2 zlib1g libgnutls30 libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6 libgmp10 libffi8")
)

// application is a service with a database on two hosts: on one it is built, on the
// other it runs.
type application struct {
	*pool
	build, run *dock
	registry   string
	digests    map[string]string // of what was pushed, by name and tag
}

// TestApplication builds a service and its database from Debian's packages, pushes
// them to the region's registry, runs them on another node with compose, upgrades the
// service with its schema and takes that back, and takes it all away in archives.
func TestApplication(t *testing.T) {
	if _, err := exec.LookPath("runc"); err != nil {
		needs.Missing(t, "containers need runc: make deps")
	}
	context := t.TempDir()
	if err := os.CopyFS(context, os.DirFS("testdata/application")); err != nil {
		t.Fatal(err)
	}
	for kind, packages := range map[string][]string{"build": buildPackages, "database": databasePackages} {
		dir := filepath.Join(context, "packages", kind)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cloud.Download(t, dir, packages...)
	}
	p := newPool(t, 2)
	cli := dockerCLI(t)
	a := &application{pool: p, build: p.dock(p.All[0], cli), run: p.dock(p.All[1], cli), registry: p.All[0].Addr + ":5000", digests: map[string]string{}}
	a.timed("built", func() { a.make(context) })
	a.timed("pushed", a.ship)
	t.Run("compose of Debian", func(t *testing.T) {
		argv, env := debianCompose(t)
		env = append(env, "COMPOSE_API_VERSION=1.41") // it cannot replace containers by 1.45 and newer, whoever answers
		a.live(t, argv, env)
	})
	if path, err := exec.LookPath("docker-compose"); err == nil {
		t.Run("compose that is installed", func(t *testing.T) { a.live(t, []string{path}, nil) })
	}
	a.timed("in archives", func() { a.archives(t) })
}

func (a *application) timed(what string, f func()) {
	a.Helper()
	begun := time.Now()
	f()
	a.Logf("%s in %s", what, time.Since(begun).Round(time.Millisecond))
}

// dock is docker in front of a host's engine.
func (p *pool) dock(h *hosts.Host, cli string) *dock {
	return &dock{t: p.T, cli: cli, host: "unix://" + filepath.Join(h.DataDir, region.DockerSocket), env: []string{"HOME=" + p.TempDir()}, slow: true}
}

// login is a member's, at the region's registry.
func (a *application) login(d *dock) {
	a.Helper()
	entry := must[*region.Clouds](a.T)(region.ReadClouds(filepath.Join(a.All[0].DataDir, region.CloudsFile))).Clouds["strata-demo"]
	d.must2([]byte(entry.Auth["password"]), "login", "-u", "demo/"+entry.Auth["username"], "--password-stdin", a.registry)
}

// make builds the images on the first host.
func (a *application) make(context string) {
	a.build.importImage()
	a.build.mustBuild(false, "-t", a.registry+"/demo/database:15", "--target", "database", context)
	for _, v := range []string{"1", "2"} {
		a.build.mustBuild(false, "-t", a.registry+"/demo/shop:"+v, "--target", "shop", "--build-arg", "VERSION="+v, context)
	}
}

// ship pushes them.
func (a *application) ship() {
	a.login(a.build)
	for _, name := range []string{"database:15", "shop:1", "shop:2"} {
		out := a.build.must("push", a.registry+"/demo/"+name)
		_, rest, ok := strings.Cut(out, "digest: ")
		if !ok {
			a.Fatalf("push of %s: %s", name, out)
		}
		a.digests[name], _, _ = strings.Cut(rest, " ")
	}
	if a.digests["shop:1"] == a.digests["shop:2"] {
		a.Fatal("both versions are one")
	}
}

// installation is the application on the second host.
type installation struct {
	*application
	t   *testing.T
	c   *compose
	url string
}

// live is the life of an installation.
func (a *application) live(t *testing.T, argv, env []string) {
	host := a.All[1]
	d := *a.run
	d.t = t
	i := &installation{application: a, t: t, c: &compose{&d, argv, env, t.TempDir()}, url: "http://" + host.Addr + ":8080"}
	d.env = append(slices.Clone(d.env), "HOME="+i.c.dir)
	if err := os.CopyFS(i.c.dir, os.DirFS("testdata/application")); err != nil {
		t.Fatal(err)
	}
	i.c.env = append(i.c.env, "REGISTRY="+a.registry, "PASSWORD=of-the-database", "ADDRESS="+host.Addr)
	a.login(&d)
	t.Cleanup(func() { // of a failed test
		for _, id := range strings.Fields(d.run(nil, "ps", "-aq").out) {
			d.run(nil, "rm", "-f", "-v", id)
		}
	})
	i.up("1")
	i.order(`{"item": "tea"}`)
	i.has(`[{"id": 1, "item": "tea"}]`)
	i.up("2")
	i.has(`[{"id": 1, "item": "tea", "note": "none"}]`)
	i.order(`{"item": "cup", "note": "blue"}`)
	i.up("1") // back
	i.has(`[{"id": 1, "item": "tea"}, {"id": 2, "item": "cup"}]`)
	i.order(`{"item": "pot"}`)
	i.up("2")
	i.has(`[{"id": 1, "item": "tea", "note": "none"}, {"id": 2, "item": "cup", "note": "blue"}, {"id": 3, "item": "pot", "note": "none"}]`)
	i.c.do("down", "-t", "20")
	i.up("2") // with the volume of before
	i.has(`[{"id": 1, "item": "tea", "note": "none"}, {"id": 2, "item": "cup", "note": "blue"}, {"id": 3, "item": "pot", "note": "none"}]`)
	i.c.do("down", "-t", "20", "-v")
	if out := d.must("volume", "ls", "-q"); out != "" {
		t.Errorf("down leaves volumes: %s", out)
	}
	d.must(append([]string{"rmi"}, strings.Fields(d.must("images", "-q"))...)...) // the next one pulls again
}

// up brings a version up, as it was pushed and with a service that stopped in order.
func (i *installation) up(version string) {
	i.t.Helper()
	begun := time.Now()
	i.c.env = append(i.c.env, "TAG="+version)
	database := i.c.service("database", "running")
	i.c.do("pull", "-q")
	i.c.do("up", "-d", "-t", "20")
	var got int
	i.c.eventually("version "+version, func() bool { return i.ask("GET", "/version", "", &got) == nil && fmt.Sprint(got) == version })
	i.t.Logf("version %s after %s", version, time.Since(begun).Round(time.Millisecond))
	if now := i.c.service("database", "running"); len(database) > 0 && !slices.Equal(database, now) {
		i.t.Errorf("the database was replaced: %v, %v", database, now)
	}
	for service, name := range map[string]string{"shop": "shop:" + version, "database": "database:15"} {
		id := i.c.inspect(i.c.service(service, "running")[0], ".Image")
		if refs := i.c.inspect(id, "join .RepoDigests \" \""); !strings.Contains(refs, "@"+i.digests[name]) {
			i.t.Errorf("%s runs %s, and %s was pushed", service, refs, i.digests[name])
		}
	}
}

func (i *installation) order(body string) {
	i.t.Helper()
	if err := i.ask("POST", "/orders", body, nil); err != nil {
		i.t.Fatal(err)
	}
}

// has compares the orders.
func (i *installation) has(want string) {
	i.t.Helper()
	var got, wanted any
	if err := i.ask("GET", "/orders", "", &got); err != nil {
		i.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		i.t.Fatal(err)
	}
	if !reflect.DeepEqual(got, wanted) {
		i.t.Errorf("the orders are %v, want %v", got, wanted)
	}
}

func (i *installation) ask(method, path, body string, into any) error {
	return askJSON(i.t, method, i.url+path, body, into)
}

func askJSON(t *testing.T, method, url, body string, into any) error {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	q := must[*http.Request](t)(http.NewRequestWithContext(ctx, method, url, strings.NewReader(body)))
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s, %w", method, url, res.Status, raw, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// archives takes images away in one and loads them elsewhere, where the application runs
// without a registry, and so does a container that was exported.
func (a *application) archives(t *testing.T) {
	from, to := a.build, a.run
	names := []string{a.registry + "/demo/database:15", a.registry + "/demo/shop:2"}
	file := filepath.Join(t.TempDir(), "images.tar")
	from.must(append([]string{"save", "-o", file}, names...)...)
	if out := to.must("load", "-i", file); !strings.Contains(out, names[0]) || !strings.Contains(out, names[1]) {
		t.Errorf("load: %s", out)
	}
	for _, n := range names {
		if a, b := from.inspect(n, ".Id"), to.inspect(n, ".Id"); a != b {
			t.Errorf("%s: %s was saved, and %s loaded", n, a, b)
		}
	}
	defer to.run(nil, "rm", "-f", "-v", "shop", "database", "again")
	defer to.run(nil, "network", "rm", "shop")
	to.must("network", "create", "shop")
	to.must("run", "-d", "--name", "database", "--network", "shop", "-e", "PASSWORD=p", names[0])
	serves := func(name, image string, more ...string) {
		t.Helper()
		address := a.All[1].Addr
		args := []string{"run", "-d", "--name", name, "--network", "shop", "-p", address + "::8080", "-e", "DATABASE=postgres://shop:p@database/shop?sslmode=disable", "--restart", "on-failure", image}
		to.must(append(args, more...)...)
		var got int
		to.eventually(name+" to serve", func() bool { // it has no port while it waits to be started again, for the database
			port := to.run(nil, "port", name, "8080")
			return port.code == 0 && askJSON(t, "GET", "http://"+strings.TrimSpace(port.out)+"/version", "", &got) == nil && got == 2
		})
	}
	serves("shop", names[1])
	file = filepath.Join(t.TempDir(), "container.tar")
	to.must("export", "-o", file, "shop")
	to.must("import", "-c", "EXPOSE 8080", file, "again:2")
	if layers := to.inspect("again:2", "len .RootFS.Layers"); layers != "1" {
		t.Errorf("an imported image has %s layers", layers)
	}
	serves("again", "again:2", "/shop")
	if log := to.run(nil, "logs", "again"); !bytes.Contains([]byte(log.errs), []byte("version 2 serves")) {
		t.Errorf("log of what was imported: %+v", log)
	}
}
