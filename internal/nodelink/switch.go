package nodelink

import (
	"context"
	"net"
	"sync"

	"github.com/strata-cloud/strata/internal/listener"
)

// Switch is a port whose server changes.
type Switch struct {
	l       net.Listener
	mu      sync.Mutex
	current *listener.Queue
}

// NewSwitch makes one of a listener.
func NewSwitch(l net.Listener) *Switch { return &Switch{l: l, current: listener.NewQueue(l.Addr())} }

// Next is the listener for the next server: from now on it gets the connections.
func (s *Switch) Next() net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.current.Close() // never fails
	s.current = listener.NewQueue(s.l.Addr())
	return s.current
}

func (s *Switch) to() *listener.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Run accepts connections until ctx ends.
func (s *Switch) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.l.Close() })
	defer stop()
	for {
		c, err := s.l.Accept()
		if err != nil {
			_ = s.to().Close()
			return ignoreClosed(err)
		}
		go s.to().Put(ctx, c)
	}
}
