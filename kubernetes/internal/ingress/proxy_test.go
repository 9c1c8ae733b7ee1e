package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func ptr[T any](v T) *T { return &v }

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waiting for %s", what)
		}
	}
}

// TestServe follows objects of a cluster and serves by them: headers, bodies, endpoints
// that do not answer, certificates by name.
func TestServe(t *testing.T) {
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Echo", strings.Join([]string{r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), string(body)}, " "))
	}))
	defer echo.Close()
	_, port, _ := net.SplitHostPort(echo.Listener.Addr().String())
	end, err := net.ResolveTCPAddr("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	defer certificate.Close()
	pair := certificate.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	class := ptr("mine")
	old := in(1, "web.example.org", "", [3]string{"/", "Prefix", "web"}, [3]string{"/nobody", "Prefix", "nobody"}, [3]string{"/absent", "Prefix", "absent"})
	old.Spec.IngressClassName, old.Spec.TLS = class, []networking.IngressTLS{{Hosts: []string{"web.example.org"}, SecretName: "tls"}}
	other := in(1, "other.example.org", "", [3]string{"/", "Prefix", "web"})
	other.Spec.IngressClassName = ptr("theirs")
	slice := func(name, service, address string, ready bool) *discovery.EndpointSlice {
		return &discovery.EndpointSlice{ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: name, Labels: map[string]string{discovery.LabelServiceName: service}},
			Ports: []discovery.EndpointPort{{Name: ptr("http"), Port: ptr(int32(end.Port))}, {Name: ptr("more"), Port: ptr(int32(1))}}, Endpoints: []discovery.Endpoint{{Addresses: []string{address}, Conditions: discovery.EndpointConditions{Ready: &ready}}}}
	}
	svc := func(name string) *core.Service {
		return &core.Service{ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: name}, Spec: core.ServiceSpec{Ports: []core.ServicePort{{Name: "more", Port: 81}, {Name: "http", Port: 80}}}}
	}
	api := fake.NewClientset(old, other, svc("web"), svc("nobody"), slice("w1", "web", "127.0.0.1", true), slice("w2", "web", "127.0.0.99", true), slice("w3", "nobody", "127.0.0.1", false),
		&networking.IngressClass{ObjectMeta: meta.ObjectMeta{Name: "mine"}, Spec: networking.IngressClassSpec{Controller: "c"}}, &networking.IngressClass{ObjectMeta: meta.ObjectMeta{Name: "theirs"}, Spec: networking.IngressClassSpec{Controller: "d"}},
		&core.Secret{ObjectMeta: meta.ObjectMeta{Namespace: "n", Name: "tls"}, Data: map[string][]byte{"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})}})
	p, err := newProxy(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	follow(ctx, api, "c", time.Minute, p)
	await(t, "the certificate", func() bool { return len(*p.certificates.byName.Load()) == 1 })
	ask := func(scheme, host, path, body string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest("POST", path, strings.NewReader(body)), httptest.NewRecorder()
		r.Host, r.RemoteAddr = host, "192.0.2.7:1234"
		r.Header.Set("X-Forwarded-For", "10.9.9.9") // forged
		p.handler(scheme).ServeHTTP(w, r)
		return w
	}
	for range 20 { // one of two endpoints refuses
		w := ask("https", "web.example.org:443", "/a%2Fb?x=%20;y", "body")
		if got, want := w.Header().Get("Echo"), "web.example.org:443 /a%2Fb?x=%20;y 192.0.2.7 https web.example.org:443 body"; w.Code != 200 || got != want {
			t.Fatalf("%d %q, want %q", w.Code, got, want)
		}
	}
	for path, want := range map[string]int{"/nobody": 503, "/absent": 503} {
		if w := ask("http", "web.example.org", path, ""); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := ask("http", "other.example.org", "/", ""); w.Code != 404 {
		t.Errorf("another class: %d", w.Code)
	}
	name := func(host string) string {
		c, err := p.certificates.config().GetCertificate(&tls.ClientHelloInfo{ServerName: host})
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(append(x.DNSNames, x.Subject.CommonName), " ")
	}
	if got := name("WEB.example.org"); !strings.Contains(got, "example.com") {
		t.Errorf("the certificate is for %s", got)
	}
	if got := name("else.example.org"); !strings.Contains(got, "no Ingress") {
		t.Errorf("the certificate is for %s", got)
	}
	echo.Close()
	if w := ask("http", "web.example.org", "/", ""); w.Code != 502 {
		t.Errorf("when nobody answers: %d", w.Code)
	}
	if _, err := api.CoreV1().Services("n").Create(ctx, svc("absent"), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.DiscoveryV1().EndpointSlices("n").Create(ctx, slice("w4", "absent", "127.0.0.1", true), meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "a new endpoint", func() bool { return ask("http", "web.example.org", "/absent", "").Code == 502 })
}
