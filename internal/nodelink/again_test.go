package nodelink

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestAgainBacksOff: what fails at once is tried ever less often; what has reached
// the control plane is tried soon.
func TestAgainBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := &Client{log: slog.New(slog.DiscardHandler)}, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		c.again(ctx, "a test", func(reached func()) error {
			at = append(at, time.Since(began))
			switch len(at) {
			case 11:
				reached()
				<-time.After(time.Second) // and the connection breaks again
			case 12:
				cancel()
			}
			return errors.New("no")
		})
		for i := 1; i < 11; i++ {
			pause, want := at[i]-at[i-1], min(redial<<(i-1), redialMax)
			if pause < want/2 || pause > want*3/2 {
				t.Errorf("pause %d is %s, not about %s", i, pause, want)
			}
		}
		if pause := at[11] - at[10] - time.Second; pause > redial*3/2 {
			t.Errorf("after a good connection the pause is %s", pause)
		}
	})
}

// TestAgainRefused: who is turned away since nobody leads asks again soon, for ever.
func TestAgainRefused(t *testing.T) {
	for _, err := range []error{
		syscall.ECONNREFUSED, noProtocol, errors.New("connection error: desc = \"transport: authentication handshake failed: remote error: tls: no application protocol\""),
		errors.New("dial tcp 127.0.0.1:1: connect: connection refused"),
	} {
		synctest.Test(t, func(t *testing.T) {
			c, ctx := &Client{log: slog.New(slog.DiscardHandler)}, t.Context()
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			n := 0
			c.again(ctx, "a test", func(func()) error { n++; return err })
			if n < 40 {
				t.Errorf("%v: %d tries in a minute", err, n)
			}
		})
	}
}
