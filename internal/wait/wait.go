// Package wait waits for a condition instead of for a length of time.
package wait

import (
	"context"
	"fmt"
	"time"
)

// Until asks cond every interval until it says true, returns an error, or ctx
// ends. The error of an ended context says what was waited for.
func Until(ctx context.Context, what string, interval time.Duration, cond func(context.Context) (bool, error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		ok, err := cond(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Pause waits for a while; the error is why ctx ended before.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
