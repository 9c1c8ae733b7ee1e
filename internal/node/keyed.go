package node

import "sync"

// keyedMutex is a mutex per key.
type keyedMutex struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock takes the key's mutex and gives the function that frees it.
func (k *keyedMutex) lock(key string) func() {
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
