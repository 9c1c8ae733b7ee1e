package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-cloud/strata/test/cloud"
)

// TestFigures prints what a user of one machine feels.
func TestFigures(t *testing.T) {
	c := cloud.Plan(t)
	c.Quiet = true
	c.Up()
	b := newBench(t, c)
	b.starts()
	b.identity()
	b.networks()
	b.images()
	b.memory()
	b.servers()
	b.attachments()
}

// starts stops and starts the cloud several times.
func (b *bench) starts() {
	var took []time.Duration
	for range 5 {
		b.c.Must("down")
		begin := time.Now()
		b.c.Up()
		took = append(took, time.Since(begin))
	}
	b.row("cold start to API ready (median of 5)", "%s", median(took).Round(time.Millisecond))
}

// rate runs fn on n clients for d and gives calls per second.
func (b *bench) rate(n int, d time.Duration, fn func(ctx context.Context) bool) float64 {
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	var done atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for range n {
		group.Go(func() {
			for ctx.Err() == nil {
				if fn(ctx) {
					done.Add(1)
				}
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func (b *bench) identity() {
	body := b.passwordBody()
	validate := b.rate(8, 3*time.Second, func(ctx context.Context) bool {
		status, _ := b.do(ctx, "GET", "/identity/v3/auth/tokens", nil, "X-Subject-Token", b.token)
		return status == 200
	})
	b.row("token validation, 8 clients (and their own load)", "%.0f/s", validate)
	again := b.rate(8, 3*time.Second, func(ctx context.Context) bool {
		status, _ := b.do(ctx, "POST", "/identity/v3/auth/tokens", strings.NewReader(body))
		return status == 201
	})
	b.row("token by password, repeated log-in, 8 clients", "%.0f/s", again)
}

// each times n calls and gives the median.
func (b *bench) each(n int, fn func(i int)) time.Duration {
	var took []time.Duration
	for i := range n {
		begin := time.Now()
		fn(i)
		took = append(took, time.Since(begin))
	}
	return median(took)
}

func (b *bench) networks() {
	ctx := b.Context()
	var id string
	took := b.each(50, func(i int) {
		status, raw := b.do(ctx, "POST", "/network/v2.0/networks", strings.NewReader(fmt.Sprintf(`{"network":{"name":"n%d"}}`, i)))
		if status != 201 {
			b.Fatalf("network: %d %s", status, raw)
		}
		id = field(raw, `"id"`)
	})
	b.row("network create (median of 50)", "%s", took.Round(10*time.Microsecond))
	if status, raw := b.do(ctx, "POST", "/network/v2.0/subnets", strings.NewReader(`{"subnet":{"network_id":"`+id+`","cidr":"10.0.0.0/16","ip_version":4}}`)); status != 201 {
		b.Fatalf("subnet: %d %s", status, raw)
	}
	took = b.each(100, func(int) {
		if status, raw := b.do(ctx, "POST", "/network/v2.0/ports", strings.NewReader(`{"port":{"network_id":"`+id+`"}}`)); status != 201 {
			b.Fatalf("port: %d %s", status, raw)
		}
	})
	b.row("port create (median of 100)", "%s", took.Round(10*time.Microsecond))
}

func (b *bench) images() {
	const size = 256 << 20
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		b.Fatal(err)
	}
	var best time.Duration
	for range 5 {
		status, raw := b.do(b.Context(), "POST", "/image/v2/images", strings.NewReader(`{"name":"b","disk_format":"raw","container_format":"bare"}`))
		if status != 201 {
			b.Fatalf("image: %d %s", status, raw)
		}
		id := field(raw, `"id"`)
		begin := time.Now()
		if status, raw := b.do(b.Context(), "PUT", "/image/v2/images/"+id+"/file", bytes.NewReader(data), "Content-Type", "application/octet-stream"); status != 204 {
			b.Fatalf("upload: %d %s", status, raw)
		}
		if took := time.Since(begin); best == 0 || took < best {
			best = took
		}
		b.do(b.Context(), "DELETE", "/image/v2/images/"+id, nil)
	}
	b.row("image upload of 256 MiB, both checksums (best of 5)", "%.0f MB/s", float64(size)/1e6/best.Seconds())
}

// memory restarts the cloud, so that what it needs idle is seen.
func (b *bench) memory() {
	b.c.Must("down")
	b.c.Up()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", b.c.Pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			n, err := strconv.Atoi(strings.Fields(kb)[0])
			if err != nil {
				b.Fatal(err)
			}
			b.row("memory of the idle cloud (PSS)", "%d MB", n/1024)
		}
	}
}

// tiny is the image that the program itself made.
func (b *bench) tiny() string {
	b.c.Tiny()
	_, raw := b.do(b.Context(), "GET", "/image/v2/images?name=tiny", nil)
	return field(raw, `"id"`)
}

// servers times real guests: from the request to ACTIVE, and to a log-in over SSH.
func (b *bench) servers() {
	b.token = b.login()
	image := b.tiny()
	var ids []string
	took := b.each(5, func(i int) {
		ids = append(ids, b.boot(fmt.Sprintf(`{"server":{"name":"b%d","flavorRef":"42","imageRef":%q,"networks":"none"}}`, i, image)))
	})
	b.row("server request to ACTIVE, QEMU running (median of 5)", "%s", took.Round(time.Millisecond))
	for _, id := range ids {
		b.remove(id)
	}
	begin := time.Now()
	b.c.Must("launch", "bench")
	b.row("strata launch: request to SSH log-in", "%s", time.Since(begin).Round(10*time.Millisecond))
}

// attachments times a volume's way into a running server and out of it.
func (b *bench) attachments() {
	server := b.boot(fmt.Sprintf(`{"server":{"name":"a","flavorRef":"42","imageRef":%q,"networks":"none"}}`, b.tiny()))
	console := filepath.Join(b.c.Dir, "instances", server, "console.log")
	b.await("the guest to be up", func() bool { // a guest that boots lets go of nothing
		raw, err := os.ReadFile(console)
		return err == nil && bytes.Contains(raw, []byte("login:"))
	})
	volume := b.volume(`{"volume":{"size":1}}`)
	var in, out []time.Duration
	for range 10 {
		begin := time.Now()
		b.post("/compute/v2.1/servers/"+server+"/os-volume_attachments", http.StatusOK, `{"volumeAttachment":{"volumeId":"`+volume+`"}}`)
		b.awaitStatus("/volume/v3/volumes/"+volume, "in-use")
		in = append(in, time.Since(begin))
		begin = time.Now()
		if status, raw := b.do(b.Context(), "DELETE", "/compute/v2.1/servers/"+server+"/os-volume_attachments/"+volume, nil); status != http.StatusAccepted {
			b.Fatalf("detaching: %d %s", status, raw)
		}
		b.awaitStatus("/volume/v3/volumes/"+volume, "available")
		out = append(out, time.Since(begin))
	}
	b.row("volume attach, request to in-use (median of 10)", "%s", median(in).Round(time.Millisecond))
	b.row("volume detach, request to available (median of 10)", "%s", median(out).Round(time.Millisecond))
	b.remove(server)
}
