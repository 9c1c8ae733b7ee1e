// Package ingress is a cluster's ingress: a proxy for HTTP and HTTPS that leads requests to
// Services by the cluster's Ingress objects, as pods of the cluster.
//
//	table.go         Ingresses as a table: host, path, backend
//	proxy.go         a request's way by the table, to a ready endpoint of the Service
//	certificates.go  what TLS answers with, by name, from Secrets
//	follow.go        the cluster's objects
//
// It reads and writes nothing itself: where the Ingresses are reached is written by
// whoever made the load balancer before it. Secrets are read one by one, those that Ingresses
// name, for which it needs no right to list them.
//
// Source: Kubernetes, "Ingress" (networking.k8s.io/v1).
package ingress

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Name is the program's.
const Name = "ingress"

// options are the program's flags.
type options struct {
	class, controller        string
	http, https, health      string
	drain, shutdown, refresh time.Duration
}

// Limits of what clients may do. Bodies and answers take as long as they take.
const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Main is the program, and returns its exit code.
func Main(ctx context.Context, args []string) int {
	var o options
	f := flag.NewFlagSet(Name, flag.ContinueOnError)
	f.StringVar(&o.controller, "controller", "strata.cloud/ingress", "serve Ingresses of classes with this controller")
	f.StringVar(&o.http, "http", ":8080", "listen here for HTTP")
	f.StringVar(&o.https, "https", ":8443", "listen here for HTTPS")
	f.StringVar(&o.health, "health", ":8081", "say here, at /readyz, whether all objects are known")
	f.DurationVar(&o.drain, "drain", 10*time.Second, "when told to end, go on for so long: load balancers have to notice")
	f.DurationVar(&o.shutdown, "shutdown", 15*time.Second, "then wait so long for requests that are under way")
	f.DurationVar(&o.refresh, "refresh", 30*time.Second, "read Secrets anew so often")
	if err := f.Parse(args[1:]); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := o.run(ctx, log); err != nil {
		log.Error("the ingress ends", "err", err)
		return 1
	}
	return 0
}

func (o *options) run(ctx context.Context, log *slog.Logger) error {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	p, err := newProxy(log)
	if err != nil {
		return err
	}
	working, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	follow(working, api, o.controller, o.refresh, p)
	return o.serve(ctx, p)
}

// serve answers until ctx ends, and then lets what is under way end.
func (o *options) serve(ctx context.Context, p *proxy) error {
	ready := http.NewServeMux()
	ready.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil || !p.known() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	ready.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	servers := []*http.Server{
		{Addr: o.http, Handler: p.handler("http")},
		{Addr: o.https, Handler: p.handler("https"), TLSConfig: p.certificates.config()},
		{Addr: o.health, Handler: ready},
	}
	failed := make(chan error, len(servers))
	for i, s := range servers {
		s.ReadHeaderTimeout, s.IdleTimeout = headerTimeout, idleTimeout
		s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) // what clients do wrong is not ours to tell
		l, err := net.Listen("tcp", s.Addr)
		if err != nil {
			return fmt.Errorf("listening at %s: %w", s.Addr, err)
		}
		go func() {
			if i == 1 {
				failed <- s.ServeTLS(l, "", "")
			} else {
				failed <- s.Serve(l)
			}
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drained := time.NewTimer(o.drain)
	defer drained.Stop()
	<-drained.C
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.shutdown)
	defer cancel()
	var errs []error
	for _, s := range servers[:2] {
		if err := s.Shutdown(limit); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
