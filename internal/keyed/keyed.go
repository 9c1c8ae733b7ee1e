// Package keyed locks by key: work on one thing is done one after the other, and nothing is
// kept of a key that nobody has locked.
package keyed

import "sync"

// Mutex is a mutex per key. Its zero value is ready.
type Mutex struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// Lock takes the key's mutex and gives the function that frees it.
func (k *Mutex) Lock(key string) func() {
	for {
		k.mu.Lock()
		if k.held == nil {
			k.held = map[string]chan struct{}{}
		}
		busy, ok := k.held[key]
		if !ok {
			done := make(chan struct{})
			k.held[key] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(done)
			}
		}
		k.mu.Unlock()
		<-busy
	}
}
