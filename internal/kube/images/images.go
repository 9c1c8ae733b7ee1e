package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Control is the control plane as it serves images to this node.
type Control interface {
	// DialMirror connects to the region's registry. The connection speaks HTTP and lasts
	// until it is closed, or ctx ends.
	DialMirror(ctx context.Context) (net.Conn, error)
	// PullLogin gives what pulls the images of a cluster's project, if the node works for it.
	PullLogin(ctx context.Context, cluster string) (*nodeapi.KubeLogin, error)
}

// Config says where a worker's programs look.
type Config struct {
	Control Control
	Dir     func(cluster string) string // of containerd's registries
	Socket  func(cluster string) string // of kubelet's plugin; its path is short
	Log     *slog.Logger
}

// Server serves the worker that this machine is.
type Server struct {
	cfg Config

	mu  sync.Mutex
	now *live
}

// live is what serves the worker of one cluster.
type live struct {
	cluster string
	relay   *relay
	logins  *logins
}

// New makes what Ensure brings to work.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// Ensure has the programs of a cluster's worker find the region's registry; it may be repeated.
func (s *Server) Ensure(ctx context.Context, p nodeapi.KubePart) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Worker == nil {
		return errs.Invalidf("this machine is no worker of cluster %s", p.ID)
	}
	if s.now != nil && s.now.cluster != p.ID {
		return errs.Conflictf("this machine still pulls images for cluster %s", s.now.cluster)
	}
	if s.now == nil {
		l, err := s.open(ctx, p.ID)
		if err != nil {
			return fmt.Errorf("images of the region's registry: %w", err)
		}
		s.now = l
	}
	names, mirrors := p.Worker.Registries, without(p.Worker.Mirrors, p.Worker.Registries)
	s.now.relay.serves(names, mirrors)
	s.now.logins.serves(names)
	return s.now.relay.configure(s.cfg.Dir(p.ID), names, mirrors)
}

// without leaves out what is in another list too.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return slices.Contains(other, x) })
}

func (s *Server) open(ctx context.Context, cluster string) (*live, error) {
	r, err := newRelay(s.cfg.Control, s.cfg.Log)
	if err != nil {
		return nil, err
	}
	l, err := serveLogins(ctx, s.cfg.Socket(cluster), cluster, s.cfg.Control, s.cfg.Log)
	if err != nil {
		r.close()
		return nil, err
	}
	return &live{cluster: cluster, relay: r, logins: l}, nil
}

func (l *live) close() {
	l.logins.close()
	l.relay.close()
}

// Remove ends what serves a cluster's worker, and takes away what it has. Absent is fine.
func (s *Server) Remove(cluster string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil && s.now.cluster == cluster {
		s.now.close()
		s.now = nil
	}
	return errors.Join(os.RemoveAll(s.cfg.Dir(cluster)), ignoreAbsent(os.Remove(s.cfg.Socket(cluster))))
}

// Close ends serving. What is pulled meanwhile comes from the registries themselves.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.now.close()
		s.now = nil
	}
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// write has a file that root alone reads, whole at any time.
func write(path string, raw []byte) error {
	if old, err := os.ReadFile(path); err == nil && slices.Equal(old, raw) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
