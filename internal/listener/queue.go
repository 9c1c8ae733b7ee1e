// Package listener has listeners for connections that come another way than from a socket:
// accepted elsewhere, or made in this process.
package listener

import (
	"context"
	"net"
	"sync"
)

// Queue is a net.Listener for connections that are put into it.
type Queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// NewQueue makes a queue that says it is at an address.
func NewQueue(addr net.Addr) *Queue {
	return &Queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Put hands a connection over to Accept. One that nobody takes any more is closed:
// net.ErrClosed, or why ctx has ended.
func (q *Queue) Put(ctx context.Context, c net.Conn) error {
	select {
	case q.conns <- c:
		return nil
	case <-q.done:
		_ = c.Close()
		return net.ErrClosed
	case <-ctx.Done():
		_ = c.Close()
		return ctx.Err()
	}
}

// Dial puts one end of a new pipe into the queue, and gives the other.
func (q *Queue) Dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	if err := q.Put(ctx, there); err != nil {
		_ = here.Close()
		return nil, err
	}
	return here, nil
}

// Accept implements net.Listener.
func (q *Queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *Queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *Queue) Addr() net.Addr { return q.addr }
