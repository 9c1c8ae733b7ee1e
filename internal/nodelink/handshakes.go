package nodelink

import (
	"context"
	"crypto/tls"
	"runtime"
	"sync"
	"time"
)

// handshakes bounds how many are under way at one moment. When thousands of nodes come
// back at once each gets its turn before it gives up, instead of all being served too
// slowly: what a handshake cost is lost when the other end has given up meanwhile.
type handshakes struct{ slots chan struct{} }

// slotTime is how long a machine that dawdles over its handshake keeps others waiting.
const slotTime = time.Second

func newHandshakes() handshakes { return handshakes{make(chan struct{}, 4*runtime.GOMAXPROCS(0))} }

// turn waits until the handshake may go on. It is a tls.Config's GetConfigForClient,
// which is called when the client has greeted and nothing was computed for it.
func (h handshakes) turn(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	ctx := hello.Context() // ends with the handshake
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := sync.OnceFunc(func() { <-h.slots })
	timer := time.AfterFunc(slotTime, free)
	context.AfterFunc(ctx, func() {
		timer.Stop()
		free()
	})
	return nil, nil // the configuration is as it was
}
