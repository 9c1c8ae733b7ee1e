package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// TestQueue has connections reach who accepts, and none stay open that nobody takes.
func TestQueue(t *testing.T) {
	q := NewQueue(&net.UnixAddr{Name: "test", Net: "pipe"})
	go func() {
		c, err := q.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "hello")
		c.Close()
	}()
	c, err := q.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(c); err != nil || string(raw) != "hello" {
		t.Errorf("read %q, %v", raw, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts: %v", err)
	}
	q.Close()
	q.Close()
	here, there := net.Pipe()
	if err := q.Put(t.Context(), there); !errors.Is(err, net.ErrClosed) {
		t.Errorf("put into a closed queue: %v", err)
	}
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("what nobody takes is open: %v", err)
	}
	if _, err := q.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept from a closed queue: %v", err)
	}
}
