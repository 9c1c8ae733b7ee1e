package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// crowd is how many servers are asked for at once.
const crowd = 20

// TestCloneFigures compares servers that boot with servers that are cloned.
func TestCloneFigures(t *testing.T) {
	c := cloud.Plan(t)
	c.Quiet = true
	c.Up()
	b := newBench(t, c)
	c.Tiny()
	b.allow(2 * crowd)
	b.fleet("booted", "m1.nano")
	flavor := b.cloneFlavor()
	c.Must("launch", "warm", "--flavor", flavor)
	b.awaitTemplate()
	b.discard("warm")
	b.fleet("cloned", flavor)
}

// allow gives the demo project room for n servers.
func (b *bench) allow(n int) {
	_, raw := b.do(b.Context(), "GET", "/identity/v3/projects?name=demo", nil)
	body := fmt.Sprintf(`{"quota_set":{"instances":%d,"cores":%d}}`, n, n)
	if status, raw := b.do(b.Context(), "PUT", "/compute/v2.1/os-quota-sets/"+field(raw, `"id"`), strings.NewReader(body)); status != 200 {
		b.Fatalf("quota: %d %s", status, raw)
	}
	if status, raw := b.do(b.Context(), "PUT", "/network/v2.0/quotas/"+field(raw, `"id"`), strings.NewReader(`{"quota":{"floatingip":-1}}`)); status != 200 {
		b.Fatalf("quota: %d %s", status, raw)
	}
}

// cloneFlavor makes a flavor like m1.nano, whose servers are cloned.
func (b *bench) cloneFlavor() string {
	b.post("/compute/v2.1/flavors", 200, `{"flavor":{"name":"cloned","ram":128,"vcpus":1,"disk":1,"id":"cloned"}}`)
	b.post("/compute/v2.1/flavors/cloned/os-extra_specs", 200, `{"extra_specs":{"strata:clone":"true"}}`)
	return "cloned"
}

func (b *bench) awaitTemplate() {
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	err := wait.Until(ctx, "a template", 100*time.Millisecond, func(context.Context) (bool, error) {
		notes, err := filepath.Glob(filepath.Join(b.c.Dir, "templates", "*", "template.json"))
		return len(notes) == 1 && !strings.Contains(notes[0], ".new"), err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// fleet measures servers of a flavor: one after the other, then many at once.
func (b *bench) fleet(kind, flavor string) {
	var active []time.Duration
	ssh := b.each(5, func(i int) {
		name := fmt.Sprintf("%s-%d", kind, i)
		active = append(active, b.launch(name, flavor))
		if i == 4 {
			pss, cpu := b.used()
			b.row("memory of a "+kind+" m1.nano at its first log-in (PSS)", "%d MB", pss>>20)
			b.row("processor time of a "+kind+" m1.nano until then", "%s", cpu)
		}
		b.discard(name)
	})
	b.row(kind+" server: request to ACTIVE (median of 5)", "%s", median(active).Round(time.Millisecond))
	b.row(kind+" server: request to SSH log-in (median of 5)", "%s", ssh.Round(10*time.Millisecond))

	begin := time.Now()
	var group sync.WaitGroup
	for i := range crowd {
		group.Go(func() { b.launch(fmt.Sprintf("%s-crowd-%d", kind, i), flavor) })
	}
	group.Wait()
	b.row(fmt.Sprintf("%d %s servers at once: until all have SSH", crowd, kind), "%s", time.Since(begin).Round(10*time.Millisecond))
	pss, cpu := b.used()
	b.row(fmt.Sprintf("memory of %d %s servers (PSS): all, one", crowd, kind), "%d MB, %d MB", pss>>20, pss/crowd>>20)
	b.row(fmt.Sprintf("processor time of %d %s servers: one", crowd, kind), "%s", (cpu / crowd).Round(10*time.Millisecond))
	if sealed := b.sealed(); sealed > 0 {
		b.row("memory of the template that they share", "%d MB", sealed>>20)
	}
	for i := range crowd {
		b.discard(fmt.Sprintf("%s-crowd-%d", kind, i))
	}
}

// launch makes a server, waits for SSH and gives the time until it was ACTIVE.
func (b *bench) launch(name, flavor string) time.Duration {
	out := make(chan time.Duration, 1)
	go func() { out <- b.untilActive(name) }()
	if _, err := b.c.Strata("launch", name, "--flavor", flavor, "--timeout", "10m"); err != nil {
		b.Error(err)
	}
	return <-out
}

// untilActive waits for the server that somebody else asks for now.
func (b *bench) untilActive(name string) time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	begin := time.Now()
	err := wait.Until(ctx, "ACTIVE", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		_, raw := b.do(ctx, "GET", "/compute/v2.1/servers/detail?all_tenants=1&name=%5E"+name+"$", nil)
		return bytes.Contains(raw, []byte(`"status":"ACTIVE"`)), nil
	})
	if err != nil {
		b.Error(err)
	}
	return time.Since(begin)
}

// discard removes the server of the name.
func (b *bench) discard(name string) {
	b.Helper()
	_, raw := b.do(b.Context(), "GET", "/compute/v2.1/servers?all_tenants=1&name=%5E"+name+"$", nil)
	b.remove(field(raw, `"id"`))
}

// used sums the proportional memory of the servers' processes, in bytes, and the
// time that they ran, which says more than a clock on a machine that others use too.
func (b *bench) used() (pss int64, cpu time.Duration) {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range links {
		if dir, err := os.Readlink(l); err != nil || filepath.Dir(dir) != filepath.Join(b.c.Dir, "instances") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(filepath.Dir(l), "smaps_rollup"))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(raw), "\nPss:")
		kb, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		pss += kb << 10
		cpu += b.ran(filepath.Dir(l))
	}
	return pss, cpu
}

// ran is how long the process of a directory in /proc has run.
func (b *bench) ran(dir string) (d time.Duration) {
	raw, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	for _, f := range fields[11:13] { // in user and system mode, in ticks of 1/100 s
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		d += time.Duration(n) * 10 * time.Millisecond
	}
	return d
}

// sealed is how much memory the control process keeps for templates, in bytes.
func (b *bench) sealed() (sum int64) {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.c.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, l := range links {
		var st unix.Stat_t
		if to, err := os.Readlink(l); err == nil && strings.Contains(to, "memfd:strata-template") && unix.Stat(l, &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}
