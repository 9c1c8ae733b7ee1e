package ingress

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"
)

// proxy leads requests to endpoints.
type proxy struct {
	log          *slog.Logger
	certificates *certificates
	state        atomic.Pointer[state]
	transport    http.RoundTripper
}

// state is what is known of the cluster.
type state struct {
	table *table
	ends  map[backend][]string // HOST:PORT of ready endpoints
}

// How long an endpoint may take to be reached, and how many of them are tried.
const (
	dialTimeout = 3 * time.Second
	attempts    = 3
	idlePerEnd  = 32
)

func newProxy(log *slog.Logger) (*proxy, error) {
	c, err := newCertificates()
	if err != nil {
		return nil, err
	}
	return &proxy{log: log, certificates: c, transport: &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConnsPerHost: idlePerEnd, IdleConnTimeout: time.Minute, DisableCompression: true}}, nil
}

func (p *proxy) known() bool { return p.state.Load() != nil }

// target is where a request goes.
type target struct{}

// handler answers what comes by http or https.
func (p *proxy) handler(scheme string) http.Handler {
	reverse := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", r.In.Host, r.In.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was written
			r.SetXForwarded()
			r.Out.Header.Set("X-Forwarded-Proto", scheme)
			r.Out.Header.Set("X-Real-Ip", clientOf(r.In))
		},
		Transport: (*retrying)(p), FlushInterval: -1,
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		ErrorHandler: p.failed,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := p.state.Load()
		if now == nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		b := now.table.find(hostOf(r.Host), r.URL.Path)
		if b == nil {
			http.Error(w, "no Ingress is for this host and path", http.StatusNotFound)
			return
		}
		ends := now.ends[*b]
		if len(ends) == 0 {
			http.Error(w, "no endpoint is ready", http.StatusServiceUnavailable)
			return
		}
		reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), target{}, ends)))
	})
}

func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return s
}

func (p *proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil { // who asked is gone
		return
	}
	status := http.StatusBadGateway
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		status = http.StatusGatewayTimeout
	}
	p.log.Warn("an endpoint does not answer", "host", r.Host, "err", err)
	http.Error(w, http.StatusText(status), status)
}

// retrying asks another endpoint when one cannot be reached: nothing has been sent then.
type retrying proxy

// RoundTrip implements http.RoundTripper.
func (t *retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	ends, _ := r.Context().Value(target{}).([]string)
	if body := r.Body; body != nil {
		defer body.Close()
	}
	first := rand.IntN(len(ends))
	var last error
	for i := range min(attempts, len(ends)) {
		out := r.Clone(r.Context())
		out.URL.Host = ends[(first+i)%len(ends)]
		if r.Body != nil {
			out.Body = io.NopCloser(r.Body)
		}
		res, err := t.transport.RoundTrip(out)
		if err == nil {
			return res, nil
		}
		last = err
		var dial *net.OpError
		if r.Context().Err() != nil || !errors.As(err, &dial) || dial.Op != "dial" {
			break
		}
	}
	return nil, last
}
