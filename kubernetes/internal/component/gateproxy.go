package component

import (
	"bufio"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// gateProxy is an HTTP proxy on loopback, as clients know them, before one at a unix socket.
// Others on the machine reach loopback too: it answers who shows a secret, which is nowhere
// but in this process.
type gateProxy struct {
	url    *url.URL // with the secret
	socket string
	secret string // the header's
	server *http.Server
}

// How long a request may take to come, and the socket to be connected to.
const (
	askLimit  = 10 * time.Second
	dialLimit = 5 * time.Second
)

func newGateProxy(socket string) (*gateProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	user, secret := "gate", rand.Text()
	p := &gateProxy{socket: socket, url: &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword(user, secret)},
		secret: "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret))}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: askLimit, MaxHeaderBytes: 4 << 10}
	go func() { _ = p.server.Serve(l) }() // until close
	return p, nil
}

func (p *gateProxy) close() { _ = p.server.Close() } // the process ends with it

// ServeHTTP implements http.Handler: CONNECT makes a tunnel (RFC 9110, 9.3.6).
func (p *gateProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Proxy-Authorization")), []byte(p.secret)) != 1 {
		http.Error(w, "This is for the process itself.", http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT is all that is known here.", http.StatusMethodNotAllowed)
		return
	}
	out, err := net.DialTimeout("unix", p.socket, dialLimit)
	if err != nil {
		http.Error(w, "The gate cannot be reached.", http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := fmt.Fprintf(out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", r.Host, r.Host); err != nil {
		return
	}
	join(rest.Reader, in, out)
}

// join passes bytes on until one end has no more, which answers the other's questions.
func join(from *bufio.Reader, in, out net.Conn) {
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // both are closed when one ends
		ended <- struct{}{}
	}
	go pass(out, from)
	go pass(in, out)
	<-ended
}
