package nodelink

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// deaf hears nothing of what the other end says.
type deaf struct {
	net.Conn
	ended chan struct{}
}

func (d deaf) Read([]byte) (int, error) {
	<-d.ended
	return 0, net.ErrClosed
}

// TestHandshakesTakeTurns: who waits in the middle of a handshake holds up the next for
// a moment, and those that go on hold up nobody.
func TestHandshakesTakeTurns(t *testing.T) {
	a := newAuthority(t)
	server, client := a.conf(t, "server", ControlUnit), a.conf(t, "client", NodeUnit)
	client.ServerName = "127.0.0.1"
	synctest.Test(t, func(t *testing.T) {
		h := handshakes{make(chan struct{}, 1)}
		conf := server.Clone()
		conf.GetConfigForClient = h.turn
		shake := func(wrap func(net.Conn) net.Conn) <-chan error {
			out, ours, theirs := make(chan error, 1), net.Conn(nil), net.Conn(nil)
			ours, theirs = net.Pipe()
			go func() { _ = tls.Server(ours, conf).HandshakeContext(t.Context()) }() // its end is told by the client
			go func() {
				defer theirs.Close()
				out <- tls.Client(wrap(theirs), client).HandshakeContext(t.Context())
			}()
			return out
		}
		ended := make(chan struct{})
		stuck := shake(func(c net.Conn) net.Conn { return deaf{c, ended} })
		synctest.Wait()
		begin := time.Now()
		for range 3 {
			if err := <-shake(func(c net.Conn) net.Conn { return c }); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took != slotTime {
			t.Errorf("the others waited %s", took)
		}
		close(ended)
		if err := <-stuck; err == nil {
			t.Error("who heard nothing has shaken hands")
		}
		synctest.Wait()
		if len(h.slots) != 0 {
			t.Error("a slot was not freed")
		}
	})
}
