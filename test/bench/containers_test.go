package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/region"
	"github.com/strata-cloud/strata/test/cloud"
)

// manyContainers are how many run at once; STRATA_BENCH_CONTAINERS says otherwise, as a
// list. 1,000 take dockerd five minutes.
const manyContainers = "100"

// TestContainerFigures measures the container engine beside dockerd of Debian's
// docker.io, with its client for both, sample by sample in turn.
func TestContainerFigures(t *testing.T) {
	if _, err := exec.LookPath("runc"); err != nil {
		needs.Missing(t, "containers need runc: make deps")
	}
	cloud.ShareRoot(t)
	debian := cloud.Debian(t, "docker.io", "containerd")
	b := &beside{T: t, engines: []*engine{newStrata(t, debian)}}
	if d, why := newDockerd(t, debian); why == "" {
		b.engines = append(b.engines, d)
	} else {
		t.Logf("dockerd is left out: %s", why)
	}
	b.begin()
	b.runs()
	b.builds()
	b.loads()
	sizes := os.Getenv("STRATA_BENCH_CONTAINERS")
	if sizes == "" {
		sizes = manyContainers
	}
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		b.many(n)
	}
}

// beside measures engines beside each other.
type beside struct {
	*testing.T
	engines []*engine
}

// engine is one behind docker's API.
type engine struct {
	t      testing.TB
	name   string
	cli    string
	home   string
	socket string
	marks  []string // each of its processes has one in its command line
	idle   int64    // bytes
	client *http.Client
}

func (e *engine) reach() {
	e.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
}

// docker runs the client.
func (e *engine) docker(stdin io.Reader, env []string, args ...string) string {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), e.cli, args...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + e.home, "DOCKER_HOST=unix://" + e.socket}, env...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		e.t.Fatalf("%s: docker %s: %v: %s", e.name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// ask sends a request.
func (e *engine) ask(method, path, body string, want int) []byte {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		e.t.Error(err)
		return nil
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := e.client.Do(req)
	if err != nil {
		e.t.Errorf("%s: %v", e.name, err)
		return nil
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != want {
		e.t.Errorf("%s: %s %s: %d, want %d: %v: %s", e.name, method, path, res.StatusCode, want, err, raw)
	}
	return raw
}

// newStrata starts a cloud with an engine. What that takes when idle is the difference
// to a cloud without.
func newStrata(t *testing.T, debian string) *engine {
	c := cloud.Plan(t)
	c.Quiet, c.Flags = true, []string{"--containers", "off"}
	c.Up()
	e := &engine{t: t, name: "Strata", cli: filepath.Join(debian, "usr/bin/docker"), home: c.Dir, socket: filepath.Join(c.Dir, region.DockerSocket), marks: []string{c.Dir, "/run/strata/" + c.Name() + "/"}}
	without := e.pss()
	c.Must("down")
	c.Flags = []string{"--containers", "on"}
	c.Up()
	e.idle = e.pss() - without
	e.reach()
	return e
}

// row is a figure of each engine.
func (b *beside) row(what string, figures ...string) {
	b.Helper()
	line := fmt.Sprintf("%-58s", what)
	for _, f := range figures {
		line += fmt.Sprintf(" %14s", f)
	}
	b.Log(line)
}

// times is a row of what took how long, and of how the first compares with the second.
func (b *beside) times(what string, took []time.Duration) {
	b.Helper()
	var out []string
	for _, d := range took {
		out = append(out, d.Round(max(10*time.Microsecond, d/1000)).String())
	}
	if len(took) == 2 {
		out = append(out, fmt.Sprintf("%.2f", took[0].Seconds()/took[1].Seconds()))
	}
	b.row(what, out...)
}

// megabytes is a row of sizes.
func (b *beside) megabytes(what string, each func(*engine) int64) {
	b.Helper()
	var out []string
	for _, e := range b.engines {
		out = append(out, fmt.Sprintf("%.2f MB", float64(each(e))/(1<<20)))
	}
	b.row(what, out...)
}

// begin gives each an image.
func (b *beside) begin() {
	load, _ := os.ReadFile("/proc/loadavg")
	b.Logf("load of the machine before: %s", bytes.TrimSpace(load))
	var names []string
	for _, e := range b.engines {
		names = append(names, e.name)
	}
	b.row("", append(names, "ratio")...)
	b.megabytes("idle, PSS", func(e *engine) int64 { return e.idle })
	root := filepath.Join(b.TempDir(), "root")
	busybox, err := os.ReadFile(filepath.Join(cloud.Debian(b, "busybox-static"), "bin/busybox"))
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"bin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, a := range []string{"sh", "true", "sleep", "cat", "mkdir", "touch"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			b.Fatal(err)
		}
	}
	tar, err := exec.Command("tar", "-C", root, "-c", ".").Output()
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range b.engines {
		e.docker(bytes.NewReader(tar), nil, "import", "-", "busybox")
	}
}

// rounds times n rounds of what each engine does in turn, not what comes after it, and
// gives medians.
func (b *beside) rounds(n int, do func(e *engine, i int), after ...func(e *engine)) []time.Duration {
	took := make([][]time.Duration, len(b.engines))
	for i := range n {
		for k, e := range b.engines {
			begin := time.Now()
			do(e, i)
			took[k] = append(took[k], time.Since(begin))
			for _, f := range after {
				f(e)
			}
		}
	}
	var out []time.Duration
	for _, t := range took {
		out = append(out, median(t))
	}
	return out
}

func (b *beside) runs() {
	for _, mode := range []string{"host", "none", "bridge"} {
		run := func(e *engine, _ int) { e.docker(nil, nil, "run", "--rm", "--network", mode, "busybox", "true") }
		b.rounds(2, run)
		b.times("docker run --rm --network "+mode+" busybox true (median of 21)", b.rounds(21, run))
	}
}

// elevenSteps is a Dockerfile; %s makes its layers new ones.
const elevenSteps = `FROM busybox
ENV SAMPLE=%s
WORKDIR /src
COPY . .
RUN cat main > /program
RUN mkdir /data && touch /data/$SAMPLE
RUN echo more >> /program
RUN cat /program
LABEL made=here
EXPOSE 8080
CMD ["cat", "/program"]
`

func (b *beside) builds() {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main"), []byte("a program\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, env := range []string{"DOCKER_BUILDKIT=0", "DOCKER_BUILDKIT=1"} {
		build := func(e *engine, _ int) {
			text := fmt.Sprintf(elevenSteps, fmt.Sprintf("%s-%s-%d", env[len(env)-1:], e.name, time.Now().UnixNano()))
			if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
			e.docker(nil, []string{env}, "build", "-q", "-t", "built", dir)
		}
		b.rounds(1, build)
		b.times(env+" docker build of 11 steps (median of 5)", b.rounds(5, build))
	}
}

// loads has an image of 200 MB, that is hard to compress, loaded and removed.
func (b *beside) loads() {
	dir := b.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.Reader, 200<<20); err != nil {
		b.Fatal(err)
	}
	f.Close()
	tar, err := exec.Command("tar", "-C", dir, "-c", "large").Output()
	if err != nil {
		b.Fatal(err)
	}
	b.engines[0].docker(bytes.NewReader(tar), nil, "import", "-", "large:1")
	archive := filepath.Join(dir, "large.tar")
	b.engines[0].docker(nil, nil, "save", "-o", archive, "large:1")
	b.engines[0].docker(nil, nil, "rmi", "large:1")
	load := func(e *engine, _ int) { e.docker(nil, nil, "load", "-q", "-i", archive) }
	b.times("docker load of 200 MB (median of 3)", b.rounds(3, load, func(e *engine) { e.docker(nil, nil, "rmi", "large:1") }))
}

// many has n containers run at once.
func (b *beside) many(n int) {
	created, removed := make([]time.Duration, len(b.engines)), make([]time.Duration, len(b.engines))
	lists, inspects := make([][]time.Duration, len(b.engines)), make([][]time.Duration, len(b.engines))
	each := map[*engine]int64{}
	for k, e := range b.engines { // one after the other: both at once would starve each other
		before := e.pss()
		ids := make([]string, n)
		created[k] = together(n, func(i int) {
			ids[i] = field(e.ask("POST", "/v1.41/containers/create", `{"Image":"busybox","Cmd":["sleep","100000"]}`, http.StatusCreated), `"Id"`)
			e.ask("POST", "/v1.41/containers/"+ids[i]+"/start", "", http.StatusNoContent)
		})
		each[e] = (e.pss() - before) / int64(n)
		for i := range 200 {
			begin := time.Now()
			e.ask("GET", "/v1.41/containers/json", "", http.StatusOK)
			lists[k] = append(lists[k], time.Since(begin))
			begin = time.Now()
			e.ask("GET", "/v1.41/containers/"+ids[i%n]+"/json", "", http.StatusOK)
			inspects[k] = append(inspects[k], time.Since(begin))
		}
		removed[k] = together(n, func(i int) { e.ask("DELETE", "/v1.41/containers/"+ids[i]+"?force=1", "", http.StatusNoContent) })
	}
	b.times(fmt.Sprintf("%d containers on bridge, created and started", n), created)
	b.megabytes("memory of each (PSS of shims, and what the engine grew by)", func(e *engine) int64 { return each[e] })
	for _, latency := range []struct {
		what string
		took [][]time.Duration
		at   int
	}{{"list of all meanwhile, median", lists, 50}, {"99th percentile", lists, 99}, {"inspect meanwhile, median", inspects, 50}, {"99th percentile", inspects, 99}} {
		var out []time.Duration
		for _, t := range latency.took {
			slices.Sort(t)
			out = append(out, t[len(t)*latency.at/100])
		}
		b.times(latency.what, out)
	}
	b.times("removing them", removed)
}

// hands is how many requests are under way at once.
const hands = 8

// together does something n times and gives how long all of it took.
func together(n int, do func(i int)) time.Duration {
	begin := time.Now()
	next := make(chan int)
	var group sync.WaitGroup
	for range hands {
		group.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	return time.Since(begin)
}
