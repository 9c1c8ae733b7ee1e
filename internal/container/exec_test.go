package container

import (
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/fifo"
)

// What is written to a process counts as written only when someone reads it, and when
// there is nothing to write only when someone could.
func TestInputWaitsForItsReader(t *testing.T) {
	for _, text := range []string{"", "typed"} {
		path := filepath.Join(t.TempDir(), "stdin")
		w, err := fifo.OpenFifo(t.Context(), path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		in := input{strings.NewReader(text), make(chan struct{})}
		go func() {
			_, _ = in.WriteTo(w)
			_ = w.Close()
		}()
		select {
		case <-in.written:
			t.Errorf("%q counts as written, and nobody reads", text)
		case <-time.After(50 * time.Millisecond):
		}
		r, err := fifo.OpenFifo(t.Context(), path, syscall.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		<-in.written
		if got, err := io.ReadAll(r); err != nil || string(got) != text {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}
