package build

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// watched tells when a connection is closed.
type watched struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

// Close implements net.Conn.
func (w *watched) Close() error {
	defer w.once.Do(func() { close(w.gone) })
	return w.Conn.Close()
}

// hijacked ends a session as soon as its client is gone, which BuildKit would find out
// later by asking.
type hijacked struct {
	http.ResponseWriter
	end context.CancelFunc
}

// Hijack implements http.Hijacker.
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	j, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this connection cannot carry a session")
	}
	conn, rw, err := j.Hijack()
	if err != nil {
		return nil, nil, err
	}
	return ending{conn, h.end}, rw, nil
}

// ending tells when nothing more comes.
type ending struct {
	net.Conn
	end context.CancelFunc
}

// Read implements net.Conn.
func (e ending) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}
