package identity

import (
	"crypto/sha256"
	"sync"
)

// subjectCache keeps resolved tokens by a hash of their text, so that the memory
// of the process holds no token. An entry counts for the generation of the
// directory in which its resolution began.
type subjectCache struct {
	shards [16]cacheShard
}

type cacheShard struct {
	mu         sync.RWMutex
	gen        uint64
	young, old map[[32]byte]*subject
}

// shardSize bounds each of the two maps of a shard.
const shardSize = 2048

func newSubjectCache() *subjectCache { return &subjectCache{} }

func cacheKey(text string) [32]byte { return sha256.Sum256([]byte(text)) }

func (c *subjectCache) get(key [32]byte, gen uint64) *subject {
	sh := &c.shards[key[0]&15]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if sh.gen != gen {
		return nil
	}
	if sub := sh.young[key]; sub != nil {
		return sub
	}
	return sh.old[key]
}

// put keeps sub unless records have changed since its resolution began.
func (c *subjectCache) put(key [32]byte, gen uint64, sub *subject) {
	sh := &c.shards[key[0]&15]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if gen < sh.gen {
		return
	}
	if gen > sh.gen || sh.young == nil {
		sh.gen, sh.young, sh.old = gen, map[[32]byte]*subject{}, nil
	}
	if len(sh.young) >= shardSize {
		sh.young, sh.old = map[[32]byte]*subject{}, sh.young
	}
	sh.young[key] = sub
}
