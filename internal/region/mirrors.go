package region

import (
	"context"
	"errors"
	"net"
	"net/http"
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

// runMirrors answers nodes that ask for images, of other registries above all.
func (r *Region) runMirrors(ctx context.Context) {
	srv := &http.Server{Handler: http.HandlerFunc(r.Registry.ServeNode), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(r.mirrors); !errors.Is(err, http.ErrServerClosed) {
		r.cfg.Log.Error("mirrors of registries", "err", err)
	}
}

// Mirrors implements nodelink.Upstream.
func (c control) Mirrors(context.Context) ([]string, error) { return c.r.Registry.Mirrored(), nil }

// DialMirror implements nodelink.Upstream.
func (c control) DialMirror(ctx context.Context) (net.Conn, error) { return c.r.dialMirror(ctx) }

func (r *Region) dialMirror(ctx context.Context) (net.Conn, error) {
	conn, err := r.mirrors.Dial(ctx)
	if errors.Is(err, net.ErrClosed) {
		err = errs.New(errs.Unavailable, "the control plane is about to end")
	}
	return conn, err
}
