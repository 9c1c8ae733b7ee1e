package credentials

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// agent answers one question after another with the same; raw, if it is set, in its place.
func agent(t *testing.T, a Answer, raw string) (socket string, asked *[]string) {
	t.Helper()
	socket, asked = filepath.Join(t.TempDir(), "s"), &[]string{}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var q Question
			_ = json.NewDecoder(c).Decode(&q)
			*asked = append(*asked, q.Image)
			if raw != "" {
				_, _ = c.Write([]byte(raw))
			} else {
				_ = json.NewEncoder(c).Encode(a)
			}
			c.Close()
		}
	}()
	return socket, asked
}

func question(image string) string {
	return `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"` + image + `"}`
}

// TestAnswer is what kubelet reads: who it is for, and how long it may be kept.
func TestAnswer(t *testing.T) {
	socket, asked := agent(t, Answer{Name: "n", Password: "p", Lasts: 30 * time.Minute}, "")
	var out, problems bytes.Buffer
	if code := Main([]string{socket}, strings.NewReader(question("192.0.2.1:5000/demo/web:1")), &out, &problems); code != 0 || problems.Len() > 0 {
		t.Fatalf("%d: %s", code, &problems)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": "Registry", "cacheDuration": "10m0s",
		"auth": map[string]any{"192.0.2.1:5000": map[string]any{"username": "n", "password": "p"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"192.0.2.1:5000/demo/web:1"}, *asked); d != "" {
		t.Error(d)
	}
}

// TestRefusals say why, and print no answer.
func TestRefusals(t *testing.T) {
	good, _ := agent(t, Answer{Name: "n", Password: "p", Lasts: time.Minute}, "")
	no, _ := agent(t, Answer{Error: "this node works for nobody"}, "")
	broken, _ := agent(t, Answer{}, `{"password":"hidden"`)
	image := question("192.0.2.1:5000/demo/web")
	for what, c := range map[string]struct {
		args []string
		in   string
		says string
	}{
		"no socket":             {nil, image, "kubelet calls this program"},
		"a relative path":       {[]string{"s"}, image, "kubelet calls this program"},
		"no JSON":               {[]string{good}, "{", "no JSON"},
		"another version":       {[]string{good}, strings.Replace(image, "/v1", "/v1beta1", 1), "v1beta1"},
		"another kind":          {[]string{good}, strings.Replace(image, "ProviderRequest", "ProviderResponse", 1), "CredentialProviderResponse"},
		"an image of Docker's":  {[]string{good}, question("busybox"), "names no registry"},
		"a project of Docker's": {[]string{good}, question("some/box"), "names no registry"},
		"a refusal":             {[]string{no}, image, "works for nobody"},
		"a broken answer":       {[]string{broken}, image, "gone away"},
		"no agent":              {[]string{filepath.Join(t.TempDir(), "none")}, image, "does not answer"},
	} {
		var out, problems bytes.Buffer
		if code := Main(c.args, strings.NewReader(c.in), &out, &problems); code == 0 || out.Len() > 0 || !strings.Contains(problems.String(), c.says) || strings.Contains(problems.String(), "hidden") {
			t.Errorf("%s: %d, %q, %q, want %q", what, code, &out, &problems, c.says)
		}
	}
}

// TestKeep: what is kept ends well before what it opens, and is never kept for ever.
func TestKeep(t *testing.T) {
	for lasts, want := range map[time.Duration]time.Duration{30 * time.Minute: 10 * time.Minute, time.Second: 0, 0: 0, -time.Hour: 0, 10 * time.Second: 3 * time.Second} {
		if got := keep(lasts); got != want {
			t.Errorf("of what lasts %v %v are kept, want %v", lasts, got, want)
		}
	}
}

func TestRegistryOf(t *testing.T) {
	for image, want := range map[string]string{"busybox": "", "library/busybox": "", "localhost/x": "localhost", "localhost:5000/x": "localhost:5000", "a.example/x@sha256:0": "a.example", "[::1]:5000/a/b": "[::1]:5000", "": "", "a.example": ""} {
		if got := RegistryOf(image); got != want {
			t.Errorf("the registry of %q is %q, want %q", image, got, want)
		}
	}
}
