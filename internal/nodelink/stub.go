package nodelink

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc"
)

// Stub calls the methods of an Export at the other end.
type Stub struct{ conn grpc.ClientConnInterface }

// call calls a method with one result at most; out may be nil.
func (s Stub) call(ctx context.Context, out any, method string, args ...any) error {
	r, err := marshal(method, args)
	if err != nil {
		return err
	}
	if out == nil {
		out = &struct{}{}
	}
	return fromStatus(ctx, s.conn.Invoke(ctx, callMethod, r, out))
}

// ask is call with a result of its own.
func ask[T any](ctx context.Context, s Stub, method string, args ...any) (T, error) {
	var out T
	err := s.call(ctx, &out, method, args...)
	return out, err
}

// open begins a stream.
func (s Stub) open(ctx context.Context, method string, args []any) (grpc.ClientStream, error) {
	r, err := marshal(method, args)
	if err != nil {
		return nil, err
	}
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}, streamMethod)
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	if err := stream.SendMsg(r); err != nil {
		return nil, fromStatus(ctx, err)
	}
	return stream, nil
}

// bytes opens a stream of bytes. An error of the method itself comes with the first read.
func (s Stub) bytes(ctx context.Context, method string, args ...any) (*byteStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := s.open(ctx, method, args)
	if err != nil {
		cancel()
		return nil, err
	}
	return &byteStream{ctx: ctx, stream: stream, cancel: cancel}, nil
}

// reader opens a stream to read and waits for its first bytes, so that what is
// refused is refused at once.
func (s Stub) reader(ctx context.Context, method string, args ...any) (io.ReadCloser, error) {
	b, err := s.bytes(ctx, method, args...)
	if err != nil {
		return nil, err
	}
	var f frame
	switch err := b.stream.RecvMsg(&f); err {
	case nil, io.EOF:
		b.rest = f.data
		return b, nil
	default:
		defer b.cancel()
		return nil, fromStatus(ctx, err)
	}
}

// dialled opens a connection.
func (s Stub) dialled(ctx context.Context, method string, args ...any) (net.Conn, error) {
	return s.bytes(ctx, method, args...)
}

// follow reads a channel at the other end until the connection breaks or ctx ends.
func follow[T any](ctx context.Context, s Stub, method string, take func(T) bool, args ...any) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.open(ctx, method, args)
	if err != nil {
		return err
	}
	for {
		var v T
		if err := stream.RecvMsg(&v); err != nil {
			return fromStatus(ctx, err)
		}
		if !take(v) {
			return nil
		}
	}
}
