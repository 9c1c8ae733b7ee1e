// Package metadata is the data plane's side of the metadata service: it listens
// on 169.254.169.254 inside the namespace of a network or a router, finds out
// whose request it is, and hands it on. Who asks is decided by the connection's
// source address within that one network alone. Headers by which a proxy would
// say it (X-Forwarded-For and upstream's X-Instance-ID family) are removed: a
// server could have written them.
package metadata

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
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/netns"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Limits of one request and connection.
const (
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 64 << 10
	readTimeout    = 10 * time.Second
	writeTimeout   = 60 * time.Second
	idleTimeout    = 30 * time.Second
)

// Server listens in one namespace.
type Server struct {
	NS     *netns.NS
	Addrs  []string                       // host:port, opened inside NS
	Owner  func(netip.Addr) *nodeapi.Port // the port that has an address here, or nil
	Handle func(ctx context.Context, deviceID string, w http.ResponseWriter, r *http.Request)
	Log    *slog.Logger

	srv *http.Server
	wg  sync.WaitGroup
}

// Start opens the listeners; from then on requests are answered until Close.
func (s *Server) Start(ctx context.Context) error {
	lc := net.ListenConfig{Control: freeBind}
	var listeners []net.Listener
	err := s.NS.Do(func() error {
		for _, a := range s.Addrs {
			l, err := lc.Listen(ctx, "tcp", a)
			if err != nil {
				return fmt.Errorf("listening on %s: %w", a, err)
			}
			listeners = append(listeners, l)
		}
		return nil
	})
	if err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return err
	}
	s.srv = &http.Server{
		Handler:     http.HandlerFunc(s.serve),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	for _, l := range listeners {
		s.wg.Go(func() {
			if err := s.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.Log.Error("metadata listener ended", "err", err)
			}
		})
	}
	return nil
}

// Close ends the listeners and their connections and waits for the loops.
func (s *Server) Close() error {
	if s.srv == nil {
		return nil
	}
	err := s.srv.Close()
	s.wg.Wait()
	return err
}

// forgeable are prefixes of headers that a server may not speak to us with.
var forgeable = []string{"X-Forwarded-", "X-Instance-Id", "X-Tenant-Id", "X-Ovn-", "X-Real-Ip", "X-Metadata-Provider"}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "400 Bad Request", http.StatusBadRequest)
		return
	}
	for name := range r.Header {
		for _, prefix := range forgeable {
			if strings.HasPrefix(name, prefix) {
				delete(r.Header, name)
			}
		}
	}
	r.Header.Del("Forwarded")
	port := s.Owner(from.Addr())
	if port == nil || port.DeviceID == "" || s.Handle == nil {
		http.Error(w, "404 Not Found", http.StatusNotFound)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	s.Handle(r.Context(), port.DeviceID, w, r)
}

// freeBind lets a listener open before its address has settled.
func freeBind(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	})
	return errors.Join(cerr, err)
}
