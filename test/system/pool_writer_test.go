package system

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// writer appends numbered records to the volume, each flushed before it counts it.
const writer = `#!/bin/sh
i=0
while [ ! -e /tmp/stop ]; do
	i=$((i+1))
	printf '%015d\n' $i | dd of=$1 bs=16 seek=$i conv=notrunc,fsync 2>/tmp/dd.log || { echo "record $i: $(cat /tmp/dd.log)" >>/tmp/failed; exit; }
	echo $i >/tmp/acked.new && mv /tmp/acked.new /tmp/acked
done
`

func (a *across) startWriter(g *cloud.Guest) {
	a.Helper()
	g.Must("rm -f /tmp/stop /tmp/acked; sudo sh -c '/tmp/writer " + device(g, a.data) + " >/dev/null 2>&1 </dev/null &'")
	a.writes(g)
}

// acked is how many records the guest counts as written.
func (a *across) acked(g *cloud.Guest) int {
	a.Helper()
	if failed := g.Must("cat /tmp/failed 2>/dev/null || true"); failed != "" {
		a.Fatalf("the guest's writes fail: %s", failed)
	}
	n, _ := strconv.Atoi(g.Must("cat /tmp/acked 2>/dev/null || echo 0"))
	return n
}

// writes waits until the guest writes on.
func (a *across) writes(g *cloud.Guest) {
	a.Helper()
	before := a.acked(g)
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	defer cancel()
	if err := wait.Until(ctx, "the guest to write", 100*time.Millisecond, func(context.Context) (bool, error) { return a.acked(g) > before+3, nil }); err != nil {
		a.Fatal(err)
	}
}

// check reads the records that the guest counted from the device.
func (a *across) check(g *cloud.Guest, dev string, n int) {
	a.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(g.Must(fmt.Sprintf("sudo dd if=%s bs=16 skip=1 count=%d 2>/dev/null | base64", dev, n)), "\n", ""))
	if err != nil {
		a.Fatal(err)
	}
	if len(raw) != 16*n {
		a.Fatalf("%d records, want %d", len(raw)/16, n)
	}
	for i := range n {
		if want := fmt.Sprintf("%015d\n", i+1); string(raw[16*i:16*i+16]) != want {
			a.Fatalf("record %d of %d is %q", i+1, n, raw[16*i:16*i+16])
		}
	}
	a.Logf("%d records that the guest flushed are there", n)
}

func (a *across) stopWriting(g *cloud.Guest) int {
	a.Helper()
	a.writes(g)
	g.Must("touch /tmp/stop; while pidof -x writer >/dev/null 2>&1; do sleep 0.1; done; sleep 1")
	return a.acked(g)
}

func (a *across) stopWriter() {
	a.Helper()
	g := a.ssh(a.T)
	a.check(g, device(g, a.data), a.stopWriting(g))
}

// measure compares the guest's writes and reads of a volume across hosts with those
// of its own disk. One run each says little on a busy machine.
func (a *across) measure() {
	a.Helper()
	g := a.ssh(a.T)
	load, _, _ := strings.Cut(string(must[[]byte](a)(os.ReadFile("/proc/loadavg"))), " ")
	own := "/home/strata/probe"
	for _, c := range []struct{ what, run string }{
		{"remote, 32 MiB written and flushed", "sudo dd if=/dev/zero of=" + device(g, a.data) + " bs=64k seek=1600 count=512 conv=notrunc,fsync"},
		{"own disk, 32 MiB written and flushed", "dd if=/dev/zero of=" + own + " bs=64k count=512 conv=fsync"},
		{"remote, 100 records of 4 KiB, each flushed", "sudo sh -c 'for i in $(seq 100); do dd if=/dev/zero of=" + device(g, a.data) + " bs=4k seek=$((30000+i)) count=1 conv=notrunc,fsync 2>/dev/null; done'"},
		{"own disk, 100 records of 4 KiB, each flushed", "for i in $(seq 100); do dd if=/dev/zero of=" + own + " bs=4k seek=$i count=1 conv=notrunc,fsync 2>/dev/null; done"},
	} {
		start := time.Now()
		g.Must(c.run)
		a.Logf("%s: %s (load %s)", c.what, time.Since(start).Round(time.Millisecond), load)
	}
	g.Must("rm " + own)
}
