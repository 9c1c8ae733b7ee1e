package console

import (
	"context"
	"embed"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// maxMessage bounds a client's frame, in bytes: a clipboard, at the most.
const maxMessage = 1 << 20

//go:embed page
var pages embed.FS

// Handler serves everything below /console/.
func (c *Consoles) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console/websockify", c.connect)
	mux.HandleFunc("GET /console/serial", func(w http.ResponseWriter, r *http.Request) {
		if upgrades(r) {
			c.connect(w, r)
			return
		}
		page(w, r, "serial.html")
	})
	for _, name := range []string{"vnc.html", "vnc.js", "serial.js"} {
		mux.HandleFunc("GET /console/"+name, func(w http.ResponseWriter, r *http.Request) { page(w, r, name) })
	}
	return mux
}

// page serves a file; the address has a secret in it, which must go nowhere.
func page(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; frame-ancestors 'self'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeFileFS(w, r, pages, "page/"+name)
}

func upgrades(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") }

// secretOf finds the token where upstream's proxies look: in the query, or in
// the cookie that a noVNC before 1.1 sets.
func secretOf(r *http.Request) string {
	if s := r.URL.Query().Get("token"); s != "" {
		return s
	}
	if k, err := r.Cookie("token"); err == nil {
		return k.Value
	}
	return ""
}

// fromHere is upstream's check against cross-site WebSockets: a browser's Origin
// must have our scheme and host name; other clients send none.
// (nova/console/websocketproxy.py, verify_origin_proto)
func (c *Consoles) fromHere(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	o, err := url.Parse(origin)
	if err != nil {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	return o.Scheme == scheme && o.Hostname() != "" && strings.EqualFold(o.Hostname(), host)
}

// refuse has no body: clients of the WebSocket that do not read the status would
// take it for the console's.
func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
}

// connect joins a WebSocket to the console that its token opens.
func (c *Consoles) connect(w http.ResponseWriter, r *http.Request) {
	if !c.fromHere(r) {
		refuse(w, http.StatusForbidden)
		return
	}
	t, err := c.Find(secretOf(r))
	if err != nil {
		refuse(w, http.StatusForbidden)
		return
	}
	if !upgrades(r) {
		refuse(w, http.StatusUpgradeRequired)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	node, err := c.Open(ctx, t.Server, t.Host, t.Kind)
	if err != nil {
		c.Log.Warn("console not reached", "server", t.Server, "node", t.Host, "kind", t.Kind, "err", err)
		refuse(w, http.StatusServiceUnavailable)
		return
	}
	defer node.Close()
	// The origin was checked above; the library's own check would demand our port too.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}, InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	s := &session{server: t.Server, ws: ws, node: node, cancel: cancel}
	if !c.enter(s) {
		return
	}
	defer c.leave(s)
	began := time.Now()
	err = s.run(ctx)
	c.Log.Info("console closed", "server", t.Server, "node", t.Host, "kind", t.Kind, "dur", time.Since(began), "err", err)
}

// session is one client at one console.
type session struct {
	server string
	ws     *websocket.Conn
	node   net.Conn
	cancel context.CancelFunc
}

func (c *Consoles) enter(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sessions[s] = true
	return true
}

func (c *Consoles) leave(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// Close ends all sessions, and lets no more begin.
func (c *Consoles) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for s := range c.sessions {
		s.cancel()
	}
}

// run carries bytes both ways until one side ends. Messages have no meaning:
// they are a stream that happens to come in pieces.
func (s *session) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.node.Close() })
	defer stop()
	in := make(chan error, 1)
	go func() { in <- s.receive(ctx) }()
	err := s.send(ctx)
	if err == nil { // the console ended by itself
		_ = s.ws.Close(websocket.StatusNormalClosure, "the console was closed")
	}
	s.cancel()
	return errors.Join(err, quiet(<-in))
}

func (s *session) send(ctx context.Context) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.node.Read(buf)
		if n > 0 {
			if err := s.ws.Write(ctx, websocket.MessageBinary, buf[:n]); err != nil {
				return quiet(err)
			}
		}
		if err != nil {
			return quiet(err)
		}
	}
}

func (s *session) receive(ctx context.Context) error {
	for {
		_, r, err := s.ws.Reader(ctx)
		if err == nil {
			_, err = io.Copy(s.node, r)
		}
		if err != nil {
			s.node.Close()
			return err
		}
	}
}

// quiet drops the errors that say no more than that somebody left.
func quiet(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, context.Canceled) || websocket.CloseStatus(err) != -1 {
		return nil
	}
	return err
}
