package nodelink

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// frameSize is how much of a stream of bytes goes at once.
const frameSize = 256 << 10

// messages is either end of a gRPC stream.
type messages interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

func sendBytes(s messages, r io.Reader) error {
	buf := make([]byte, frameSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := s.SendMsg(&frame{buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func recvBytes(s messages, w io.Writer) error {
	for {
		var f frame
		if err := s.RecvMsg(&f); err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
	}
}

// pipe carries a connection's bytes both ways until either end is done.
func pipe(s grpc.ServerStream, c io.ReadWriteCloser) error {
	stop := context.AfterFunc(s.Context(), func() { _ = c.Close() })
	defer stop()
	go func() {
		err := recvBytes(s, c) // ends with the stream, which ends with this function
		if half, ok := c.(halfCloser); ok && err == io.EOF {
			_ = half.CloseWrite() // the caller has sent all, and still listens
			return
		}
		_ = c.Close()
	}()
	err := sendBytes(s, c)
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return errors.Join(err, ignoreClosed(c.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// halfCloser is a connection that can end one direction alone.
type halfCloser interface{ CloseWrite() error }

// byteStream is the caller's end: a reader, or a connection of which nothing but
// reading, writing and closing is of use.
type byteStream struct {
	ctx    context.Context
	stream grpc.ClientStream
	cancel context.CancelFunc
	rest   []byte
	once   sync.Once
}

var _ net.Conn = (*byteStream)(nil)

// Read implements net.Conn.
func (b *byteStream) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		var f frame
		if err := b.stream.RecvMsg(&f); err != nil {
			return 0, fromStatus(b.ctx, err)
		}
		b.rest = f.data
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Write implements net.Conn.
func (b *byteStream) Write(p []byte) (int, error) {
	if err := b.stream.SendMsg(&frame{p}); err != nil {
		return 0, fromStatus(b.ctx, err)
	}
	return len(p), nil
}

// CloseWrite says that no more is written. A connection at the other end that cannot be
// closed in one direction alone is closed.
func (b *byteStream) CloseWrite() error { return b.stream.CloseSend() }

// Close implements net.Conn.
func (b *byteStream) Close() error {
	b.once.Do(b.cancel)
	return nil
}

type linkAddr struct{}

func (linkAddr) Network() string { return "nodelink" }
func (linkAddr) String() string  { return "node" }

// LocalAddr implements net.Conn.
func (*byteStream) LocalAddr() net.Addr { return linkAddr{} }

// RemoteAddr implements net.Conn.
func (*byteStream) RemoteAddr() net.Addr { return linkAddr{} }

// SetDeadline implements net.Conn; the context of the call bounds it instead.
func (*byteStream) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*byteStream) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*byteStream) SetWriteDeadline(time.Time) error { return nil }
