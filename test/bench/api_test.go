package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/wait"
	"github.com/strata-cloud/strata/test/cloud"
)

type bench struct {
	*testing.T
	c      *cloud.Cloud
	client *http.Client
	token  string
}

func (b *bench) row(what, format string, args ...any) {
	b.Logf("%-52s %s", what, fmt.Sprintf(format, args...))
}

func newBench(t *testing.T, c *cloud.Cloud) *bench {
	b := &bench{T: t, c: c, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	b.token = b.login()
	return b
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

// field finds the text of a key in JSON whose other keys do not repeat it.
func field(raw []byte, key string) string {
	i := bytes.Index(raw, []byte(key+":"))
	if i < 0 {
		return ""
	}
	rest := raw[i+len(key)+1:]
	return strings.Trim(string(rest[:bytes.IndexAny(rest, ",}")]), `" `)
}

// post makes something and gives the answer.
func (b *bench) post(path string, want int, body string) []byte {
	b.Helper()
	status, raw := b.do(b.Context(), "POST", path, strings.NewReader(body), "X-OpenStack-Nova-API-Version", "2.79")
	if status != want {
		b.Fatalf("POST %s: %d %s", path, status, raw)
	}
	return raw
}

// await asks again and again, without pausing for long: what is timed ends with it.
func (b *bench) await(what string, done func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	if err := wait.Until(ctx, what, time.Millisecond, func(context.Context) (bool, error) { return done(), nil }); err != nil {
		b.Fatal(err)
	}
}

// awaitStatus waits until what is at the path has the status.
func (b *bench) awaitStatus(path, status string) {
	b.Helper()
	b.await(path+" to be "+status, func() bool {
		_, raw := b.do(b.Context(), "GET", path, nil)
		if bytes.Contains(bytes.ToLower(raw), []byte(`"status":"error`)) {
			b.Fatalf("%s: %s", path, raw)
		}
		return bytes.Contains(raw, []byte(`"status":"`+status+`"`))
	})
}

// boot makes a server and returns when it is ACTIVE.
func (b *bench) boot(body string) string {
	b.Helper()
	id := field(b.post("/compute/v2.1/servers", http.StatusAccepted, body), `"id"`)
	b.awaitStatus("/compute/v2.1/servers/"+id, "ACTIVE")
	return id
}

// remove deletes a server and returns when it is gone.
func (b *bench) remove(id string) {
	b.Helper()
	b.do(b.Context(), "DELETE", "/compute/v2.1/servers/"+id, nil)
	b.await("server "+id+" to be gone", func() bool {
		status, _ := b.do(b.Context(), "GET", "/compute/v2.1/servers/"+id, nil)
		return status == http.StatusNotFound
	})
}

// volume makes a volume and returns when it is available.
func (b *bench) volume(body string) string {
	b.Helper()
	var made struct{ Volume struct{ ID string } }
	if err := json.Unmarshal(b.post("/volume/v3/volumes", http.StatusAccepted, body), &made); err != nil {
		b.Fatal(err)
	}
	b.awaitStatus("/volume/v3/volumes/"+made.Volume.ID, "available")
	return made.Volume.ID
}

// upload makes an image of a file.
func (b *bench) upload(name, format, path string, props map[string]string) string {
	b.Helper()
	spec := map[string]string{"name": name, "disk_format": format, "container_format": "bare"}
	if format == "aki" || format == "ari" {
		spec["container_format"] = format
	}
	for k, v := range props {
		spec[k] = v
	}
	body, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	id := field(b.post("/image/v2/images", http.StatusCreated, string(body)), `"id"`)
	if status, raw := b.do(b.Context(), "PUT", "/image/v2/images/"+id+"/file", bytes.NewReader(data), "Content-Type", "application/octet-stream"); status != http.StatusNoContent {
		b.Fatalf("upload: %d %s", status, raw)
	}
	return id
}
