package region

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync/atomic"
	"time"

	"github.com/strata-cloud/strata/internal/nodelink"
)

// What control members tell each other of a request that is passed on. Clients cannot:
// the headers count on the connections of control members only.
const (
	fromHeader  = "X-Strata-From"  // the client's address
	protoHeader = "X-Strata-Proto" // http or https
	againHeader = "X-Strata-Again" // in an answer: nothing was done, ask the leader
)

const (
	// holdFor is how long a request waits for a leader.
	holdFor = 10 * time.Second
	// askAgain is how long a request that nobody took waits, unless the leader changes.
	askAgain = 50 * time.Millisecond
	// keepBody is up to what size a body is kept, so that it can be sent again.
	keepBody = 1 << 20
)

// relay passes requests on to the member that leads.
type relay struct {
	council   *council
	transport *http.Transport
}

func newRelay(c *council, proto string) *relay {
	conf := c.creds.client(&c.creds.control)
	return &relay{c, &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return nodelink.DialTLS(ctx, addr, conf, proto)
		}}}
}

// forget closes the connections that are not in use.
func (r *relay) forget() { r.transport.CloseIdleConnections() }

// The ways in which passing on can fail.
var (
	errNotSent = errors.New("the leader was not reached")
	errUnknown = errors.New("the connection to the leader broke: what became of the request is not known")
)

// pass sends a request to a member and its answer to the client, who is told nothing
// if there is an error. lead is who leads: when another does, there is no use in waiting.
func (r *relay) pass(w http.ResponseWriter, q *http.Request, addr string, lead uint64) error {
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	go r.council.whileLeads(ctx, cancel, lead)
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	body := &touched{ReadCloser: q.Body}
	out := q.WithContext(ctx)
	if q.Body != nil && q.Body != http.NoBody {
		out.Body = body
	}
	var failed error
	proxy := &httputil.ReverseProxy{Transport: r.transport, FlushInterval: -1, ErrorLog: nil,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.URL.RawQuery, p.Out.Host = "http", addr, p.In.URL.RawQuery, p.In.Host
			p.Out.Header.Set(fromHeader, p.In.RemoteAddr)
			p.Out.Header.Set(protoHeader, schemeOf(p.In))
		},
		ModifyResponse: func(a *http.Response) error {
			if a.Header.Get(againHeader) != "" {
				sent.Store(false)
				return errNotSent
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err }}
	proxy.ServeHTTP(w, out)
	switch {
	case failed == nil:
		return nil
	case !sent.Load() && !body.read.Load():
		return errNotSent
	}
	return errUnknown
}

// whileLeads calls end when another member leads.
func (c *council) whileLeads(ctx context.Context, end func(), lead uint64) {
	for {
		now, changed := c.state()
		if now != 0 && now != lead {
			end()
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func schemeOf(q *http.Request) string {
	if q.TLS != nil {
		return "https"
	}
	return "http"
}

// touched notes whether something was read of a body. Closing is its owner's business.
type touched struct {
	io.ReadCloser
	read atomic.Bool
}

// Read implements io.Reader.
func (t *touched) Read(p []byte) (int, error) {
	t.read.Store(true)
	return t.ReadCloser.Read(p)
}

// Close implements io.Closer.
func (*touched) Close() error { return nil }

// answerer serves a request while this member leads.
type answerer func(r *Region) http.Handler

// answer has a request answered by who leads, here or elsewhere. While nobody does
// it waits. A request that may have been done is repeated only if that does no harm.
func (r *relay) answer(w http.ResponseWriter, q *http.Request, here answerer) error {
	ctx, cancel := context.WithTimeout(q.Context(), holdFor)
	defer cancel()
	again, err := replayable(w, q)
	if err != nil {
		return err
	}
	for {
		lead, changed := r.council.state()
		if region, done := r.council.begin(); region != nil {
			defer done()
			again()
			here(region).ServeHTTP(w, q)
			return nil
		}
		if addr, ok := r.council.addrOf(lead); ok && !r.council.member.Leads() {
			again()
			err := r.pass(w, q, addr, lead)
			if err == nil || errors.Is(err, errUnknown) && !harmless(q) {
				return err
			}
		}
		if err := waitFor(ctx, changed); err != nil {
			return errNotSent
		}
	}
}

func waitFor(ctx context.Context, changed <-chan struct{}) error {
	t := time.NewTimer(askAgain)
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// harmless requests can be done twice.
func harmless(q *http.Request) bool {
	return q.Method == http.MethodGet || q.Method == http.MethodHead || q.Method == http.MethodOptions
}

// replayable keeps a small body; again makes it ready to be read from its start.
func replayable(w http.ResponseWriter, q *http.Request) (again func(), err error) {
	if q.ContentLength <= 0 || q.ContentLength > keepBody {
		return func() {}, nil
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, q.Body, keepBody))
	if err != nil {
		return nil, err
	}
	return func() { q.Body = io.NopCloser(bytes.NewReader(raw)) }, nil
}

// ServeHTTP answers clients.
func (c *council) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path == "/healthz" {
		c.healthz(w, q)
		return
	}
	c.refuse(w, q, c.api.answer(w, q, func(r *Region) http.Handler { return r.handler }))
}

// leading is begin for what another member passed on; nil: it has been told to look again who leads.
func (c *council) leading(w http.ResponseWriter) (*Region, func()) {
	r, done := c.begin()
	if r == nil {
		w.Header().Set(againHeader, "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	return r, done
}

// passed answers a client of another member.
func (c *council) passed(w http.ResponseWriter, q *http.Request) {
	r, done := c.leading(w)
	if r == nil {
		return
	}
	defer done()
	q.RemoteAddr, q.TLS = q.Header.Get(fromHeader), nil
	if q.Header.Get(protoHeader) == "https" {
		q.TLS = &tls.ConnectionState{}
	}
	q.Header.Del(fromHeader)
	q.Header.Del(protoHeader)
	r.handler.ServeHTTP(w, q)
}
