package build

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/entitlements"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/strata-cloud/strata/internal/errs"
)

// Sink takes what a client is told: lines of output, or a message of the id.
type Sink interface {
	Stream(text string)
	Aux(id string, v any)
}

// uploadPatience is how long a build waits for its context.
const uploadPatience = 5 * time.Second

// Build makes an image, and gives its id where that is the result. tell may be called
// until it returns.
func (b *Builder) Build(ctx context.Context, o Options, body io.Reader, tell Sink) (string, error) {
	if id, ok := strings.CutPrefix(o.BuildID, uploadPrefix); ok {
		return "", b.bring(ctx, id, body)
	}
	ctx, end := b.begin(ctx, o.BuildID)
	defer end()
	attrs, err := o.attrs(b.cfg.HostGateway)
	if err != nil {
		return "", err
	}
	var up *upload
	switch o.Remote {
	case "":
	case remoteSession:
		body = nil
	case remoteUpload:
		if up, err = b.await(ctx, o.BuildID); err != nil {
			return "", err
		}
		body = up.body
	default:
		if err := checkRemote(o.Remote); err != nil {
			return "", err
		}
		body, attrs["context"] = nil, o.Remote
	}
	src, err := b.receive(body, o.Auth)
	if up != nil {
		up.finish(err)
	}
	if err != nil {
		return "", err
	}
	defer src.close()
	session := o.SessionID
	if session == "" {
		session = src.session.ID()
	} else if body != nil {
		attrs["local-sessionid:context"], attrs["local-sessionid:dockerfile"] = src.session.ID(), src.session.ID()
	}
	if !o.Classic {
		return b.solve(ctx, o, attrs, session, trace{tell, o.Quiet})
	}
	c, err := newClassic(src.dir, o, tell)
	if err != nil {
		return "", err
	}
	id, err := b.solve(ctx, o, attrs, session, c)
	return id, c.end(id, err)
}

// bring hands a context to the build that waits for it.
func (b *Builder) bring(ctx context.Context, id string, body io.Reader) error {
	u := &upload{body: body, done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, uploadPatience)
	defer cancel()
	j := b.job(id)
	select {
	case j.upload <- u:
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		if j.cancel == nil { // no build has come for it
			delete(b.jobs, id)
		}
		return errs.Invalidf("no build waits for the context of %s", id)
	}
	<-u.done
	return u.err
}

// await waits for a context.
func (b *Builder) await(ctx context.Context, id string) (*upload, error) {
	if id == "" {
		return nil, errs.Invalidf("a context that is uploaded needs the build's id")
	}
	ctx, cancel := context.WithTimeout(ctx, uploadPatience)
	defer cancel()
	select {
	case u := <-b.job(id).upload:
		return u, nil
	case <-ctx.Done():
		return nil, errs.Invalidf("the context of build %s was not uploaded", id)
	}
}

// watcher follows BuildKit's progress.
type watcher interface {
	status(*controlapi.StatusResponse) error
	finished(id string)
}

// solve has BuildKit build.
func (b *Builder) solve(ctx context.Context, o Options, attrs map[string]string, session string, w watcher) (id string, err error) {
	name, exportAttrs, err := o.exporter()
	if err != nil {
		return "", err
	}
	req := &controlapi.SolveRequest{Ref: identity.NewID(), Frontend: frontendName, FrontendAttrs: attrs, Session: session, Cache: &controlapi.CacheOptions{}}
	if name != "" {
		req.Exporters = []*controlapi.Exporter{{Type: name, Attrs: exportAttrs}}
	}
	if v := o.Args["BUILDKIT_INLINE_CACHE"]; v != nil {
		if on, err := strconv.ParseBool(*v); err == nil && on {
			req.Cache.Exports = append(req.Cache.Exports, &controlapi.CacheOptionsEntry{Type: "inline"})
		}
	}
	if o.Network == "host" {
		req.Entitlements = append(req.Entitlements, entitlements.EntitlementNetworkHost.String())
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		res, err := b.control.Solve(gctx, req)
		if err != nil {
			return err
		}
		if name == exporterMoby || name == bkclient.ExporterImage {
			id = res.ExporterResponse[exptypes.ExporterImageDigestKey]
			w.finished(id)
		}
		return nil
	})
	group.Go(func() error {
		// The status ends by itself when the build does, however that is.
		return b.control.Status(&controlapi.StatusRequest{Ref: req.Ref}, statusStream{stream{ctx: context.WithoutCancel(ctx)}, w.status})
	})
	err = group.Wait()
	if ctx.Err() != nil && err != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return id, err
}

// trace passes BuildKit's progress on, or nothing but the id.
type trace struct {
	tell  Sink
	quiet bool
}

func (t trace) status(s *controlapi.StatusResponse) error {
	if t.quiet {
		return nil
	}
	raw, err := proto.Marshal(s)
	if err == nil {
		t.tell.Aux("moby.buildkit.trace", raw)
	}
	return err
}

func (t trace) finished(id string) {
	if t.quiet {
		t.tell.Stream(id + "\n")
		return
	}
	t.tell.Aux("moby.image.id", map[string]string{"ID": id})
}

// stream stands in for a connection: the caller is in this process.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s stream) Context() context.Context { return s.ctx }

// SendHeader implements grpc.ServerStream.
func (stream) SendHeader(metadata.MD) error { return nil }

// statusStream takes answers of the status call.
type statusStream struct {
	stream
	take func(*controlapi.StatusResponse) error
}

// Send implements controlapi.Control_StatusServer.
func (s statusStream) Send(r *controlapi.StatusResponse) error { return s.take(r) }

// SendMsg implements grpc.ServerStream.
func (s statusStream) SendMsg(m any) error { return s.take(m.(*controlapi.StatusResponse)) }
