package build

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/registry"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/strata-cloud/strata/internal/errs"
)

// contexts has one directory per build whose context came as a tar.
func (b *Builder) contexts() string { return filepath.Join(b.cfg.Dir, "contexts") }

// source is where a build's files are.
type source struct {
	dir     string // of a context that came as a tar
	session *session.Session
	over    chan struct{}
}

// receive unpacks a context and opens a session of ours that shows it. Without a
// context the session has the registries' credentials only.
func (b *Builder) receive(body io.Reader, cred map[string]registry.AuthConfig) (*source, error) {
	s := &source{over: make(chan struct{})}
	var err error
	// A key of its own: BuildKit would take a file for one of an earlier context that has
	// the same name, size and second, as archives have no finer times.
	if s.session, err = session.NewSession(b.ctx, identity.NewID()); err != nil {
		return nil, err
	}
	s.session.Allow(credentials{cred: cred})
	if body != nil {
		if s.dir, err = os.MkdirTemp(b.contexts(), ""); err != nil {
			return nil, err
		}
		if err := unpack(body, s.dir); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
		files, err := fsutil.NewFS(s.dir)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
		// Whose the files are here is of no interest to the image.
		mine, err := fsutil.NewFilterFS(files, &fsutil.FilterOpt{Map: rooted})
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
		s.session.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": mine, "dockerfile": mine}))
	}
	b.group.Go(func() {
		defer close(s.over)
		if err := s.session.Run(b.ctx, b.dial); err != nil {
			b.cfg.Log.Warn("a build's session", "err", err)
		}
	})
	return s, nil
}

// dial connects a session of ours to BuildKit.
func (b *Builder) dial(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	b.group.Go(func() {
		if err := b.sessions.HandleConn(ctx, theirs, meta); err != nil {
			b.cfg.Log.Warn("a build's session", "err", err)
		}
	})
	return ours, nil
}

func (s *source) close() error {
	err := s.session.Close()
	<-s.over
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// checkRemote refuses what is no address of a context.
func checkRemote(remote string) error {
	if strings.HasPrefix(remote, "git@") || strings.HasPrefix(remote, "github.com/") {
		return nil
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return errs.Invalidf("remote URL %q could not be used: it is no address of a git repository or an archive", remote)
	}
	switch u.Scheme {
	case "http", "https", "git", "ssh":
		return nil
	}
	return errs.Invalidf("remote URL %q could not be used: unsupported scheme %s", remote, u.Scheme)
}

// credentials answers BuildKit's questions for a request that brought them along.
type credentials struct {
	auth.UnimplementedAuthServer
	cred map[string]registry.AuthConfig
}

// Register implements session.Attachable.
func (c credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// hub is how docker login names Docker's own registry.
const hub = "https://index.docker.io/v1/"

// Credentials implements auth.AuthServer.
func (c credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := r.Host
	if host == "registry-1.docker.io" || host == "docker.io" {
		host = hub
	}
	a, ok := c.cred[host]
	if !ok {
		return &auth.CredentialsResponse{}, nil
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}

// FetchToken implements auth.AuthServer: BuildKit fetches it with the credentials.
func (credentials) FetchToken(context.Context, *auth.FetchTokenRequest) (*auth.FetchTokenResponse, error) {
	return nil, status.Error(codes.Unimplemented, "tokens are fetched with credentials")
}

// job is a build that others may speak of by an id that the client chose.
type job struct {
	cancel context.CancelFunc
	upload chan *upload
}

// upload is a context that comes by a request of its own.
type upload struct {
	body io.Reader
	err  error
	done chan struct{}
	once sync.Once
}

func (u *upload) finish(err error) {
	u.once.Do(func() {
		u.err = err
		close(u.done)
	})
}

// job finds or makes one.
func (b *Builder) job(id string) *job {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.jobs[id]
	if j == nil {
		j = &job{upload: make(chan *upload)}
		b.jobs[id] = j
	}
	return j
}

// begin makes a build's context, which Cancel ends.
func (b *Builder) begin(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	if id == "" {
		return ctx, cancel
	}
	j := b.job(id)
	b.mu.Lock()
	j.cancel = cancel
	b.mu.Unlock()
	return ctx, func() {
		cancel()
		b.mu.Lock()
		delete(b.jobs, id)
		b.mu.Unlock()
	}
}

// Cancel ends a build. One that is not there has ended.
func (b *Builder) Cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.jobs[id]; j != nil && j.cancel != nil {
		j.cancel()
	}
}
