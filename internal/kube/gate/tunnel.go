package gate

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// How long a tunnel lasts that nobody may be using any more.
const (
	// lingerLimit is how long nothing may come where the other direction has ended.
	lingerLimit = time.Minute
	// stallLimit is how long a side may take nothing.
	stallLimit = 15 * time.Minute
	// chunk is how much is passed on at once, in bytes.
	chunk = 32 << 10
)

// stream is a connection of which one direction can end.
type stream interface {
	net.Conn
	CloseWrite() error
}

// tunnel passes on what either side says.
type tunnel struct {
	in, out stream
	linger  time.Duration // lingerLimit
	halved  atomic.Bool   // one direction has ended
}

// run passes on until both directions have ended; early is what was read of in already.
func (t *tunnel) run(early io.Reader) {
	var group sync.WaitGroup
	group.Go(func() { t.pass(t.out, t.in, early) })
	group.Go(func() { t.pass(t.in, t.out, t.out) })
	group.Wait()
}

// end closes both sides.
func (t *tunnel) end() {
	_ = t.in.Close()
	_ = t.out.Close()
}

// pass passes on one direction, and its end. Who cannot be spoken to ends both.
func (t *tunnel) pass(dst, src stream, from io.Reader) {
	buf := make([]byte, chunk)
	for {
		if t.halved.Load() {
			_ = src.SetReadDeadline(time.Now().Add(t.linger)) // the read tells
		}
		n, err := from.Read(buf)
		if n > 0 {
			_ = dst.SetWriteDeadline(time.Now().Add(stallLimit))
			if _, err := dst.Write(buf[:n]); err != nil {
				t.end()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			t.halved.Store(true)
			if err := errors.Join(dst.CloseWrite(), dst.SetReadDeadline(time.Now().Add(t.linger))); err != nil {
				t.end()
			}
			return
		case err != nil:
			t.end()
			return
		}
	}
}
