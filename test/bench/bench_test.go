package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

// TestFigures prints what a user of one machine feels.
func TestFigures(t *testing.T) {
	c := cloud.Plan(t)
	c.Quiet = true
	c.Up()
	b := &bench{T: t, c: c, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	b.starts()
	b.token = b.login()
	b.identity()
	b.networks()
	b.images()
	b.memory()
	b.servers()
}

type bench struct {
	*testing.T
	c      *cloud.Cloud
	client *http.Client
	token  string
}

func (b *bench) row(what, format string, args ...any) {
	b.Logf("%-52s %s", what, fmt.Sprintf(format, args...))
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

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func (b *bench) passwordBody() string {
	a := b.c.Auth("strata")
	return fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"name":"Default"},"password":%q}}},"scope":{"project":{"name":"admin","domain":{"name":"Default"}}}}}`, a["username"], a["password"])
}

func (b *bench) login() string {
	resp, err := b.client.Post(b.c.URL()+"/identity/v3/auth/tokens", "application/json", strings.NewReader(b.passwordBody()))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("X-Subject-Token")
}

// do sends a request and gives the status and the body.
func (b *bench) do(ctx context.Context, method, path string, body io.Reader, header ...string) (int, []byte) {
	req, err := http.NewRequestWithContext(ctx, method, b.c.URL()+path, body)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", b.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		b.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil && ctx.Err() == nil {
		b.Fatal(err)
	}
	return resp.StatusCode, raw
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

// field finds the text of a key in JSON whose other keys do not repeat it.
func field(raw []byte, key string) string {
	i := bytes.Index(raw, []byte(key+":"))
	if i < 0 {
		return ""
	}
	rest := raw[i+len(key)+1:]
	return strings.Trim(string(rest[:bytes.IndexAny(rest, ",}")]), `" `)
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

// servers times real guests: from the request to ACTIVE, and to a log-in over SSH.
func (b *bench) servers() {
	ctx := b.Context()
	b.c.Must("image", "build", "tiny")
	b.token = b.login()
	_, raw := b.do(ctx, "GET", "/image/v2/images?name=tiny", nil)
	image := field(raw, `"id"`)
	var ids []string
	took := b.each(5, func(i int) {
		status, raw := b.do(ctx, "POST", "/compute/v2.1/servers", strings.NewReader(fmt.Sprintf(`{"server":{"name":"b%d","flavorRef":"42","imageRef":%q,"networks":"none"}}`, i, image)), "X-OpenStack-Nova-API-Version", "2.79")
		if status != 202 {
			b.Fatalf("server: %d %s", status, raw)
		}
		id := field(raw, `"id"`)
		ids = append(ids, id)
		err := wait.Until(ctx, "ACTIVE", time.Millisecond, func(ctx context.Context) (bool, error) {
			_, raw := b.do(ctx, "GET", "/compute/v2.1/servers/"+id, nil)
			if bytes.Contains(raw, []byte(`"status":"ERROR"`)) {
				return false, fmt.Errorf("server: %s", raw)
			}
			return bytes.Contains(raw, []byte(`"status":"ACTIVE"`)), nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
	b.row("server request to ACTIVE, QEMU running (median of 5)", "%s", took.Round(time.Millisecond))
	for _, id := range ids {
		b.do(ctx, "DELETE", "/compute/v2.1/servers/"+id, nil)
	}
	begin := time.Now()
	b.c.Must("launch", "bench")
	b.row("strata launch: request to SSH log-in", "%s", time.Since(begin).Round(10*time.Millisecond))
}
