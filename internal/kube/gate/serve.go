package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/netns"
)

// Limits of a cluster's gate.
const (
	maxTunnels  = 1024
	maxDials    = 64 // each takes a thread
	askLimit    = 10 * time.Second
	maxQuestion = 4 << 10 // bytes
)

// gate is that of one cluster.
type gate struct {
	cluster string
	log     *slog.Logger
	inside  *netns.NS // nil: not made yet; Gates.mu
	ways    atomic.Pointer[ways]
	http    *http.Server
	done    chan struct{}
	dials   chan struct{}

	mu      sync.Mutex
	closed  bool
	count   int // of tunnels, those that are being made among them
	tunnels map[*tunnel]bool
	group   sync.WaitGroup // of who has a tunnel
}

// open begins to answer a cluster's API server.
func (g *Gates) open(w *Want) (*gate, error) {
	l, err := listen(g.cfg.Socket(w.Cluster))
	if err != nil {
		return nil, err
	}
	x := &gate{cluster: w.Cluster, log: g.cfg.Log, done: make(chan struct{}), dials: make(chan struct{}, maxDials), tunnels: map[*tunnel]bool{}}
	x.ways.Store(&ways{Want: *w, host: g.cfg.Host})
	x.http = &http.Server{Handler: x, ReadHeaderTimeout: askLimit, IdleTimeout: askLimit, MaxHeaderBytes: maxQuestion, ErrorLog: slog.NewLogLogger(x.log.Handler(), slog.LevelDebug)}
	go func() {
		defer close(x.done)
		if err := x.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			x.log.Error("a cluster's API does not reach its cluster any more", "cluster", x.cluster, "err", err)
		}
	}()
	return x, nil
}

// close ends all tunnels, and waits for their ends.
func (x *gate) close() {
	_ = x.http.Close() // nothing is lost by it
	<-x.done
	x.mu.Lock()
	x.closed = true
	for t := range x.tunnels {
		t.end()
	}
	x.mu.Unlock()
	x.group.Wait()
	if x.inside != nil {
		_ = x.inside.Close() // it was open for reading
	}
}

// enter counts a tunnel, if there may be another one.
func (x *gate) enter() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.closed:
		return errs.New(errs.Unavailable, "the gate is closed")
	case x.count >= maxTunnels:
		return errs.New(errs.Unavailable, "there are %d connections already", maxTunnels)
	}
	x.count++
	x.group.Add(1)
	return nil
}

func (x *gate) leave() {
	x.mu.Lock()
	x.count--
	x.mu.Unlock()
	x.group.Done()
}

// keep has a tunnel end with the gate; false: that has ended.
func (x *gate) keep(t *tunnel) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.closed {
		x.tunnels[t] = true
	}
	return !x.closed
}

func (x *gate) forget(t *tunnel) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.tunnels, t)
}

// ServeHTTP implements http.Handler: CONNECT makes a tunnel.
func (x *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		w.Header().Set("Allow", http.MethodConnect)
		http.Error(w, "CONNECT is all that is known here", http.StatusMethodNotAllowed)
		return
	}
	err := x.enter()
	if err == nil {
		defer x.leave()
		err = x.connect(w, r)
	}
	if err != nil {
		x.log.Debug("a cluster's API is refused a connection", "cluster", x.cluster, "to", r.Host, "err", err)
		refuse(w, err)
	}
}

// connect makes the tunnel, and returns when it has ended. An error is one before that.
func (x *gate) connect(w http.ResponseWriter, r *http.Request) error {
	at, err := netip.ParseAddrPort(r.Host)
	if err != nil || at.Port() == 0 {
		return errs.Invalidf("not an address with a port")
	}
	out, err := x.dial(r.Context(), netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	if err != nil {
		return err
	}
	conn, rest, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	t := &tunnel{in: conn.(*net.UnixConn), out: out, linger: lingerLimit}
	defer t.end()
	if !x.keep(t) {
		return nil
	}
	defer x.forget(t)
	if _, err := conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return nil // who asked has gone
	}
	t.run(rest.Reader)
	return nil
}

// dial connects, when it is its turn.
func (x *gate) dial(ctx context.Context, at netip.AddrPort) (stream, error) {
	turn := time.NewTimer(dialLimit)
	defer turn.Stop()
	select {
	case x.dials <- struct{}{}:
		defer func() { <-x.dials }()
	case <-turn.C:
		return nil, errs.New(errs.Unavailable, "%d connections wait for an answer already", maxDials)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return x.ways.Load().dial(ctx, at)
}

// refuse says why there is no tunnel, in the status line, which is all that the API server
// passes on.
func refuse(w http.ResponseWriter, why error) {
	code := http.StatusBadGateway
	var late net.Error
	switch {
	case errors.As(why, &late) && late.Timeout():
		code = http.StatusGatewayTimeout
	case errs.Is(why, errs.Invalid):
		code = http.StatusBadRequest
	case errs.Is(why, errs.Forbidden):
		code = http.StatusForbidden
	case errs.Is(why, errs.Unavailable):
		code = http.StatusServiceUnavailable
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // it has gone
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askLimit)) // the write tells
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", code, oneLine(why.Error()))
}

// oneLine is text that a status line can have.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 300)]
}
