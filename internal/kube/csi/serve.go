package csi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
)

// listen takes a socket's place, so that there is one at any time. A name that begins with
// a dot is nothing to kubelet.
func listen(path string) (net.Listener, error) {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	next := filepath.Join(dir, "."+name)
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: next, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(next, 0o600), os.Rename(next, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// raw is the codec of messages that nobody looks into.
type raw struct{}

// Marshal implements encoding.Codec.
func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no message", v)
	}
	return *b, nil
}

// Unmarshal implements encoding.Codec.
func (raw) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}

// Name implements encoding.Codec.
func (raw) Name() string { return "proto" }

// server is a socket that is served.
type server struct {
	*grpc.Server
	done chan struct{}
}

// serve begins to answer at a socket.
func serve(path string, s *grpc.Server) (*server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	out := &server{s, make(chan struct{})}
	go func() {
		defer close(out.done)
		_ = s.Serve(l) // until close
	}()
	return out, nil
}

func (s *server) close() {
	s.Stop()
	<-s.done
}
