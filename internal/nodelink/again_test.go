package nodelink

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestAgainBacksOff: what fails at once is tried ever less often; what was well for
// a while is tried soon.
func TestAgainBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := &Client{log: slog.New(slog.DiscardHandler)}, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		c.again(ctx, "a test", func() error {
			at = append(at, time.Since(began))
			switch len(at) {
			case 11:
				<-time.After(time.Minute) // the connection lasts
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
		if pause := at[11] - at[10] - time.Minute; pause > redial*3/2 {
			t.Errorf("after a good connection the pause is %s", pause)
		}
	})
}
