package images

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/kube/credentials"
)

const (
	// callLimit bounds a question of the plugin, which waits longer.
	callLimit = 20 * time.Second
	// maxQuestion bounds what is read of one, in bytes.
	maxQuestion = 64 << 10
)

// logins answers kubelet's plugin.
type logins struct {
	cluster string
	control Control
	log     *slog.Logger
	l       net.Listener
	end     context.CancelFunc
	group   sync.WaitGroup

	mu    sync.Mutex
	names []string // of the region's own registry
}

// serveLogins begins to answer at a socket, in the place of one that a crash left.
func serveLogins(ctx context.Context, socket, cluster string, control Control, log *slog.Logger) (*logins, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if err := ignoreAbsent(os.Remove(socket)); err != nil {
		return nil, err
	}
	at, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, at.Close())
	}
	s := &logins{cluster: cluster, control: control, log: log, l: at}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	s.group.Go(func() {
		for {
			c, err := at.Accept()
			if err != nil {
				return
			}
			s.group.Go(func() { s.talk(ctx, c) })
		}
	})
	return s, nil
}

func (s *logins) close() {
	s.end()
	_ = s.l.Close() // it is ours
	s.group.Wait()
}

func (s *logins) serves(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
}

// talk answers one question.
func (s *logins) talk(ctx context.Context, c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	var q credentials.Question
	if err := json.NewDecoder(io.LimitReader(c, maxQuestion)).Decode(&q); err != nil {
		return // whoever it was has gone
	}
	a, err := s.answer(ctx, &q)
	if err != nil {
		s.log.Warn("there are no credentials for a pod's image", "cluster", s.cluster, "image", q.Image, "err", err)
		a = &credentials.Answer{Error: err.Error()}
	}
	_ = json.NewEncoder(c).Encode(a) // who asked may have gone
}

func (s *logins) answer(ctx context.Context, q *credentials.Question) (*credentials.Answer, error) {
	s.mu.Lock()
	own := slices.Contains(s.names, credentials.RegistryOf(q.Image))
	s.mu.Unlock()
	if !own {
		return nil, errs.Forbiddenf("%q is not in the region's registry", q.Image)
	}
	l, err := s.control.PullLogin(ctx, s.cluster)
	if err != nil {
		return nil, err
	}
	return &credentials.Answer{Name: l.Name, Password: l.Password, Lasts: l.Lasts}, nil
}
