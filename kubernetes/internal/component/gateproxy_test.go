package component

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
)

// gate answers CONNECT at a unix socket, and says to where.
func gate(t *testing.T, to string) (socket string, asked chan string) {
	t.Helper()
	socket, asked = filepath.Join(t.TempDir(), "gate.sock"), make(chan string, 10)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				from := bufio.NewReader(in)
				r, err := http.ReadRequest(from)
				if err != nil {
					return
				}
				asked <- r.Method + " " + r.Host
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				fmt.Fprint(in, "HTTP/1.1 200 Connection established\r\n\r\n")
				join(from, in, out)
			}()
		}
	}()
	return socket, asked
}

// TestGateProxy has a client reach by the socket what it reaches by nothing else, and nobody
// else reach anything.
func TestGateProxy(t *testing.T) {
	kubelet := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	t.Cleanup(kubelet.Close)
	socket, asked := gate(t, kubelet.Listener.Addr().String())
	p, err := newGateProxy(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	get := func(by *url.URL, address string) (string, error) {
		transport := kubelet.Client().Transport.(*http.Transport).Clone()
		transport.Proxy, transport.TLSClientConfig.ServerName = http.ProxyURL(by), "example.com" // the certificate's
		defer transport.CloseIdleConnections()
		r, err := (&http.Client{Transport: transport}).Get(address)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		raw, err := io.ReadAll(r.Body)
		return string(raw), err
	}
	if got, err := get(p.url, "https://192.0.2.7:10250/"); err != nil || got != "192.0.2.7:10250" {
		t.Errorf("a kubelet says %q, %v", got, err)
	}
	if got := <-asked; got != "CONNECT 192.0.2.7:10250" {
		t.Errorf("the gate is asked for %q", got)
	}
	for _, by := range []*url.URL{{Scheme: "http", Host: p.url.Host}, {Scheme: "http", Host: p.url.Host, User: url.UserPassword("gate", "guess")}} {
		if got, err := get(by, "https://192.0.2.7:10250/"); err == nil {
			t.Errorf("%s is told %q", by, got)
		}
	}
	if r, err := http.Get("http://" + p.url.Host + "/"); err != nil || r.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("somebody is answered %v, %v", r, err)
	} else {
		r.Body.Close()
	}
	if len(asked) > 0 {
		t.Errorf("the gate is asked for %q", <-asked)
	}
	broken, err := newGateProxy(socket + "-absent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broken.close)
	if got, err := get(broken.url, "https://192.0.2.7:10250/"); err == nil {
		t.Errorf("without a gate a kubelet says %q", got)
	}
}
