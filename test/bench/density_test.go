package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strata-cloud/strata/test/cloud"
)

const (
	// batch is how many servers are asked for at once when a machine is filled.
	batch = 10
	// spare is the memory that is left to the machine, in bytes.
	spare = 1 << 30
	// addresses is how many servers a network of 256 addresses has room for.
	addresses = 240
)

// TestDensity starts servers that answer over SSH until the memory is full, or the
// addresses are at an end: such that boot, and such that are cloned.
func TestDensity(t *testing.T) {
	c := cloud.Plan(t)
	c.Quiet = true
	c.Up()
	b := newBench(t, c)
	c.Tiny()
	b.allow(addresses)
	b.overcommit()
	b.fill("booted", "m1.nano")
	flavor := b.cloneFlavor()
	c.Must("launch", "warm", "--flavor", flavor)
	b.awaitTemplate()
	b.discard("warm")
	b.fill("cloned", flavor)
}

// overcommit has memory be the limit, not what the scheduler allows by default.
func (b *bench) overcommit() {
	_, raw := b.do(b.Context(), "GET", "/placement/resource_providers", nil, "OpenStack-API-Version", "placement 1.39")
	path := "/placement/resource_providers/" + field(raw, `"uuid"`) + "/inventories"
	_, raw = b.do(b.Context(), "GET", path, nil)
	var in struct {
		Inventories map[string]map[string]any `json:"inventories"`
		Generation  int                       `json:"resource_provider_generation"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		b.Fatalf("%v: %s", err, raw)
	}
	for _, inv := range in.Inventories {
		inv["allocation_ratio"] = 10000
	}
	body, err := json.Marshal(in)
	if err != nil {
		b.Fatal(err)
	}
	if status, raw := b.do(b.Context(), "PUT", path, strings.NewReader(string(body))); status != 200 {
		b.Fatalf("%d: %s", status, raw)
	}
}

// fill starts servers of a flavor until the machine is full, and removes them.
func (b *bench) fill(kind, flavor string) {
	begin, before := time.Now(), b.available()
	n, each := 0, int64(200<<20)
	for n+batch <= addresses && b.available() > spare+batch*each {
		b.together(n, func(i int) { b.launch(fmt.Sprintf("%s-%d", kind, i), flavor) })
		n += batch
		each = (before - b.available()) / int64(n)
	}
	left := b.available()
	b.row(kind+" m1.nano servers that answer over SSH at once", "%d in %s", n, time.Since(begin).Round(time.Second))
	b.row("memory of the machine that each took, left", "%d MB, %d MB", each>>20, left>>20)
	pss, _ := b.used()
	b.row("memory of the servers' processes (PSS), each", "%d MB", pss/int64(n)>>20)
	for i := 0; i < n; i += batch {
		b.together(i, func(i int) { b.discard(fmt.Sprintf("%s-%d", kind, i)) })
	}
}

// together does a batch from number i on.
func (b *bench) together(i int, do func(int)) {
	var group sync.WaitGroup
	for k := range batch {
		group.Go(func() { do(i + k) })
	}
	group.Wait()
}

// available is the memory that programs can still have, in bytes.
func (b *bench) available() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "MemAvailable:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no word on memory")
	return 0
}
