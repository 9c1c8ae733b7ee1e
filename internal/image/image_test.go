package image

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// sniffer knows qcow2 by its magic and calls a backing file unsafe: enough to
// tell how the service uses an inspector's verdict.
type sniffer struct{ head []byte }

func (s *sniffer) Write(p []byte) (int, error) {
	s.head = append(s.head, p[:min(len(p), 32-len(s.head))]...)
	if bytes.HasPrefix(s.head, []byte("EVIL")) {
		return 0, errors.New("it refers to another file")
	}
	return len(p), nil
}

func (s *sniffer) Finish() (string, int64, error) {
	if !bytes.HasPrefix(s.head, []byte("QFI\xfb")) {
		return "raw", 0, nil
	}
	if len(s.head) > 8 && s.head[8] != 0 {
		return "qcow2", 1 << 30, errors.New("it has a backing file")
	}
	return "qcow2", 1 << 30, nil
}

type tokens map[string]*policy.Credentials

func (t tokens) Authenticate(_ context.Context, token string) (*policy.Credentials, error) {
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, errs.New(errs.Unauthenticated, "The request you have made requires authentication.")
}

type bench struct {
	t   testing.TB
	s   *Service
	db  *store.DB
	url string
}

func start(t testing.TB, change func(*Options)) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Backend: store.NewMemory(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	o := Options{DB: db, Log: log, Dir: filepath.Join(t.TempDir(), "images"), NewInspector: func() Inspector { return &sniffer{} }}
	if change != nil {
		change(&o)
	}
	s := New(o)
	if err := db.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New("", Policies())
	if err != nil {
		t.Fatal(err)
	}
	kit := &rest.Kit{Policy: engine, Log: log, Metrics: rest.NewMetrics(), AuthURL: "/identity", Auth: tokens{
		"admin": {UserID: "a", ProjectID: "adm", Roles: []string{"admin", "member", "reader"}},
		"one":   {UserID: "u1", ProjectID: "p1", Roles: []string{"member", "reader"}},
		"two":   {UserID: "u2", ProjectID: "p2", Roles: []string{"member", "reader"}},
		"read":  {UserID: "u3", ProjectID: "p1", Roles: []string{"reader"}}}}
	h, err := kit.Handler(s.API())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &bench{t: t, s: s, db: db, url: srv.URL}
}

// do sends a request; "METHOD /path [content-type]".
func (b *bench) do(token, line, body string) (int, string, http.Header) {
	b.t.Helper()
	f := strings.Fields(line)
	req, err := http.NewRequestWithContext(b.t.Context(), f[0], b.url+"/image/v2"+f[1], strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	switch {
	case len(f) > 2 && strings.HasPrefix(f[2], "Range:"):
		req.Header.Set("Range", f[2][6:])
	case len(f) > 2:
		req.Header.Set("Content-Type", f[2])
	case f[0] == "PATCH":
		req.Header.Set("Content-Type", "application/openstack-images-v2.1-json-patch")
	case strings.HasSuffix(f[1], "/file") || strings.HasSuffix(f[1], "/stage"):
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(raw), resp.Header
}

func (b *bench) want(status int, token, line, body string) map[string]any {
	b.t.Helper()
	got, raw, _ := b.do(token, line, body)
	if got != status {
		b.t.Fatalf("%s as %s: got %d %s, want %d", line, token, got, raw, status)
	}
	out := map[string]any{}
	_ = json.Unmarshal([]byte(raw), &out) // faults are HTML
	return out
}

func (b *bench) create(token, body string) string {
	b.t.Helper()
	return b.want(201, token, "POST /images", body)["id"].(string)
}

func (b *bench) files() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.s.Dir)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

const raw = `{"name":"x","disk_format":"raw","container_format":"bare"}`

func TestUploadAndDownload(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	b.want(204, "one", "GET /images/"+id+"/file", "")
	data := strings.Repeat("0123456789", 100_000)
	b.want(204, "one", "PUT /images/"+id+"/file", data)
	v := b.want(200, "one", "GET /images/"+id, "")
	sum5, sum512 := md5.Sum([]byte(data)), sha512.Sum512([]byte(data))
	if v["status"] != "active" || v["checksum"] != hex.EncodeToString(sum5[:]) || v["os_hash_value"] != hex.EncodeToString(sum512[:]) ||
		v["os_hash_algo"] != "sha512" || v["size"] != 1e6 || v["virtual_size"] != 1e6 {
		t.Errorf("after the upload: %v", v)
	}
	b.want(409, "one", "PUT /images/"+id+"/file", "again")
	for _, tc := range []struct {
		rng, want string
		status    int
		content   string
	}{
		{"", data, 200, ""},
		{"bytes=0-4", "01234", 206, "bytes 0-4/1000000"},
		{"bytes=999998-", "89", 206, "bytes 999998-999999/1000000"},
		{"bytes=-3", "789", 206, "bytes 999997-999999/1000000"},
		{"bytes=999990-2000000", "0123456789", 206, "bytes 999990-999999/1000000"},
		{"bytes=1000000-", "", 416, "bytes */1000000"},
		{"bytes=5-2", "", 416, "bytes */1000000"},
		{"bytes=0-1,4-5", "", 416, "bytes */1000000"},
		{"rows=0-1", "", 416, "bytes */1000000"},
	} {
		line := "GET /images/" + id + "/file"
		if tc.rng != "" {
			line += " Range:" + tc.rng
		}
		status, got, h := b.do("one", line, "")
		if status != tc.status || got != tc.want || h.Get("Content-Range") != tc.content {
			t.Errorf("%q: %d, %d bytes, Content-Range %q", tc.rng, status, len(got), h.Get("Content-Range"))
		}
		if tc.status == 200 && h.Get("Content-Md5") != hex.EncodeToString(sum5[:]) {
			t.Errorf("Content-MD5 %q", h.Get("Content-Md5"))
		}
	}
	path, err := b.s.Path(id)
	if got, _ := os.ReadFile(path); err != nil || string(got) != data {
		t.Errorf("the file: %v", err)
	}
	b.want(404, "two", "GET /images/"+id+"/file", "")
	b.want(204, "one", "DELETE /images/"+id, "")
	if left := b.files(); len(left) > 0 {
		t.Errorf("left after the delete: %v", left)
	}
}

func TestRefusedData(t *testing.T) {
	b := start(t, func(o *Options) { o.MaxSize, o.ProjectLimit = 1000, 1500 })
	qcow2 := "QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00 and so on"
	for _, tc := range []struct {
		name, image, data string
		status            int
	}{
		{"no formats", `{}`, "x", 400},
		{"no container format", `{"disk_format":"raw"}`, "x", 400},
		{"qcow2 as raw is raw", `{"disk_format":"raw","container_format":"bare"}`, qcow2, 204},
		{"qcow2", `{"disk_format":"qcow2","container_format":"bare"}`, qcow2, 204},
		{"raw as qcow2", `{"disk_format":"qcow2","container_format":"bare"}`, "plain", 415},
		{"qcow2 as vmdk", `{"disk_format":"vmdk","container_format":"bare"}`, qcow2, 415},
		{"backing file", `{"disk_format":"qcow2","container_format":"bare"}`, strings.Replace(qcow2, "\x03\x00", "\x03\x01", 1), 415},
		{"backing file as raw", `{"disk_format":"raw","container_format":"bare"}`, strings.Replace(qcow2, "\x03\x00", "\x03\x01", 1), 415},
		{"refused while it streams", `{"disk_format":"raw","container_format":"bare"}`, "EVIL", 415},
		{"not inspectable", `{"disk_format":"ami","container_format":"ami"}`, "plain", 204},
		{"not a disk", `{"disk_format":"qcow2","container_format":"docker"}`, "plain", 204},
		{"too large", `{"disk_format":"raw","container_format":"bare"}`, strings.Repeat("x", 1001), 413},
		{"over the project's limit", `{"disk_format":"raw","container_format":"bare"}`, strings.Repeat("x", 1000), 204},
		{"over the project's limit", `{"disk_format":"raw","container_format":"bare"}`, strings.Repeat("x", 999), 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := b.create("one", tc.image)
			before := len(b.files())
			b.want(tc.status, "one", "PUT /images/"+id+"/file", tc.data)
			v := b.want(200, "one", "GET /images/"+id, "")
			if tc.status == 204 {
				if v["status"] != "active" {
					t.Errorf("status %v", v["status"])
				}
				return
			}
			if v["status"] != "queued" || v["size"] != nil || len(b.files()) != before {
				t.Errorf("after a refusal: %v, files %v", v, b.files())
			}
		})
	}
	id := b.create("one", raw)
	b.want(415, "one", "PUT /images/"+id+"/file application/json", "{}")
	b.want(404, "two", "PUT /images/"+id+"/file", "x")
	b.want(403, "read", "PUT /images/"+id+"/file", "x")
}

func TestCutShort(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	if err := b.s.takeIn(t.Context(), id, io.MultiReader(strings.NewReader("half"), &broken{}), 10); err == nil {
		t.Fatal("half an image was taken")
	}
	v, err := b.s.images.Get(id)
	if err != nil || v.Status != Queued || len(b.files()) > 0 {
		t.Errorf("%v, %v, files %v", v, err, b.files())
	}
	if err := b.s.takeIn(t.Context(), id, strings.NewReader("123"), 4); !errs.Is(err, errs.Invalid) {
		t.Errorf("a short body: %v", err)
	}
}

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestDeletedDuringUpload(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	err := b.s.takeIn(t.Context(), id, io.MultiReader(strings.NewReader("a"), readerFunc(func() error { return b.s.Delete(t.Context(), id) })), -1)
	if !errors.Is(err, errGone) || len(b.files()) > 0 {
		t.Errorf("%v, files %v", err, b.files())
	}
}

func TestParallelUploads(t *testing.T) {
	b := start(t, nil)
	id := b.create("one", raw)
	var group sync.WaitGroup
	var won, lost atomic.Int32
	for i := range 8 {
		group.Go(func() {
			switch err := b.s.takeIn(t.Context(), id, strings.NewReader(strings.Repeat(string(rune('a'+i)), 1000)), 1000); {
			case err == nil:
				won.Add(1)
			case errs.Is(err, errs.Conflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != 7 || len(b.files()) != 1 {
		t.Errorf("%d won, %d lost, files %v", won.Load(), lost.Load(), b.files())
	}
}

// TestProjectLimitHolds uploads in parallel what only fits in part.
func TestProjectLimitHolds(t *testing.T) {
	b := start(t, func(o *Options) { o.ProjectLimit = 3000 })
	var group sync.WaitGroup
	var won atomic.Int32
	for range 8 {
		id := b.create("one", raw)
		group.Go(func() {
			err := b.s.takeIn(t.Context(), id, strings.NewReader(strings.Repeat("x", 1000)), -1)
			if err == nil {
				won.Add(1)
			} else if !errs.Is(err, errs.TooLarge) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 3 || len(b.files()) != 3 {
		t.Errorf("%d of 8 uploads fitted, files %v", won.Load(), b.files())
	}
}

// TestHoles: what is zero takes no space, and reads back as it was.
func TestHoles(t *testing.T) {
	b := start(t, nil)
	data := make([]byte, 8<<20)
	copy(data[3<<20:], "in the middle")
	data[len(data)-1] = 1
	for _, size := range []int{len(data), len(data) - 1, len(data) - hole - 1, 1, 0} {
		id := b.create("one", raw)
		if err := b.s.takeIn(t.Context(), id, bytes.NewReader(data[:size]), int64(size)); err != nil {
			t.Fatal(err)
		}
		path, err := b.s.Path(id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, data[:size]) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 1<<20 {
			t.Errorf("%d bytes take %d, %v", size, st.Blocks*512, err)
		}
	}
}

type readerFunc func() error

func (f readerFunc) Read([]byte) (int, error) {
	if err := f(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func TestStartClearsWhatACrashLeft(t *testing.T) {
	b := start(t, nil)
	kept := b.create("one", raw)
	b.want(204, "one", "PUT /images/"+kept+"/file", "data")
	stuck := b.create("one", raw)
	if _, err := b.s.images.Update(t.Context(), stuck, func(v *Image) error { v.Status, v.Upload = Saving, "dead"; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"tmp-orphan", "orphan"} {
		if err := os.WriteFile(b.s.file(f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := b.files(); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if v, _ := b.s.images.Get(stuck); v.Status != Queued {
		t.Errorf("status %s", v.Status)
	}
	b.want(200, "one", "GET /images/"+kept+"/file", "")
}

func TestImport(t *testing.T) {
	b := start(t, nil)
	src := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(src, []byte("QFI\xfb\x00\x00\x00\x03\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := ImportOptions{Name: "tiny", Path: src, Owner: "adm", Visibility: Public, Properties: map[string]string{"os_distro": "x"}}
	v, err := b.s.Import(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.s.Import(t.Context(), o)
	if err != nil || again.ID != v.ID || len(b.files()) != 1 {
		t.Errorf("again: %v, %v, files %v", again, err, b.files())
	}
	if v.DiskFormat != "qcow2" || *v.VirtualSize != 1<<30 || v.Status != Active {
		t.Errorf("%+v", v)
	}
	b.want(200, "two", "GET /images/"+v.ID+"/file", "")
}

// A property that a user names is no attribute; one that was there may stay.
func TestSetPropertiesKeepsWhatOnlyWeWrite(t *testing.T) {
	v := &Image{Properties: map[string]string{"os_glance_x": "1"}}
	v.keep("os_glance_x", "1")
	for key, bad := range map[string]bool{"mine": false, "name": true, "id": true, "os_glance_y": true, "location": true, "": true} {
		if err := v.setNew(key, "2"); (err != nil) != bad {
			t.Errorf("%q: %v", key, err)
		}
	}
	if len(v.Properties) != 2 || v.Name != nil {
		t.Errorf("the image is %+v", v)
	}
}
