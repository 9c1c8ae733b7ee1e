package region

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

// listen opens the API's port before anything else is touched, so that a busy
// port or a second start changes nothing.
func listen(cfg *Config) (net.Listener, error) {
	l, err := bind(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if cfg.loopback() {
		return l, nil
	}
	conf, err := serverTLS(cfg)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return tls.NewListener(l, conf), nil
}

// serve answers until ctx ends, then lets requests under way finish.
func (r *Region) serve(ctx context.Context, l net.Listener, ready func()) error {
	srv := &http.Server{Handler: r.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	srv.RegisterOnShutdown(r.Compute.Consoles().Close) // the server does not know of them
	srv.RegisterOnShutdown(r.Docker.Close)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StopGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
}

// front answers what is not one of the APIs of OpenStack: health, metrics, consoles, the
// registry, Docker's API and the index.
func front(apis, consoles, registry, docker http.Handler, metrics *rest.Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Strata-Pid", strconv.Itoa(os.Getpid()))
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", loopbackOnly(metrics.Handler()))
	mux.HandleFunc("GET /{$}", index)
	mux.Handle("/console/", consoles)
	mux.Handle("/v2/", deletable(registry))
	mux.Handle("/mirror/", registry)
	mux.Handle(dockerPath+"/", http.StripPrefix(dockerPath, deletable(docker)))
	mux.Handle("/", deletable(apis))
	return mux
}

// dockerPath is where Docker's API is: DOCKER_HOST=tcp://HOST:PORT/docker.
const dockerPath = "/docker"

// deletable lets deletions through on a full disk: what they write makes room.
func deletable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			r = r.WithContext(store.Freeing(r.Context()))
		}
		next.ServeHTTP(w, r)
	})
}

// loopbackOnly keeps the operator's figures from tenants.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// index tells a newcomer's browser where the APIs are.
func index(w http.ResponseWriter, r *http.Request) {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	base := scheme + r.Host
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": "Strata", "services": map[string]string{
		"identity": base + "/identity/v3", "image": base + "/image/v2", "placement": base + "/placement",
		"network": base + "/network/v2.0", "compute": base + "/compute/v2.1",
		"volume": base + "/volume/v3", "container-registry": base + "/v2/", "docker": base + dockerPath}})
}

// URLOf is where a region of this configuration is reached.
func URLOf(cfg *Config) string { return cfg.url() }

// HealthClient speaks to a region of this configuration on this machine, trusting
// the authority of its data directory.
func HealthClient(cfg *Config) *http.Client {
	t := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(cfg.Listen)
		host, _, _ := net.SplitHostPort(cfg.Listen)
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(host, port))
	}}
	if !cfg.loopback() {
		// The authority's file appears during the first start: it is read when a connection needs it.
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			pem, err := os.ReadFile(cfg.path(caCertFile))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(pem)
			_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		}}
	}
	return &http.Client{Transport: t, Timeout: 5 * time.Second}
}
