package region

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/registry"
)

func validMirrors(mirrors map[string]string, gib int) error {
	var all []error
	if gib < 0 || gib > 1<<20 {
		all = append(all, errs.Invalidf("--registry-mirror-gib %d is no size", gib))
	}
	for host, address := range mirrors {
		if err := registry.CheckMirror(host, address); err != nil {
			all = append(all, errs.Invalidf("--registry-mirror: %w", err))
		}
	}
	return errors.Join(all...)
}

// runMirrors answers nodes that ask for images of other registries.
func (r *Region) runMirrors(ctx context.Context) {
	srv := &http.Server{Handler: http.HandlerFunc(r.Registry.NodeMirror), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(r.mirrors); !errors.Is(err, http.ErrServerClosed) {
		r.cfg.Log.Error("mirrors of registries", "err", err)
	}
}

// Mirrors implements nodelink.Upstream.
func (c control) Mirrors(context.Context) ([]string, error) { return c.r.Registry.Mirrored(), nil }

// DialMirror implements nodelink.Upstream.
func (c control) DialMirror(ctx context.Context) (net.Conn, error) { return c.r.mirrors.dial(ctx) }

// pipes is a listener in this process.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.done:
		return nil, errs.New(errs.Unavailable, "the control plane is about to end")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements net.Listener.
func (*pipes) Addr() net.Addr { return &net.UnixAddr{Net: "pipe", Name: "mirrors"} }
