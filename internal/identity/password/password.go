// Package password keeps secrets of users at rest and checks them.
//
// At rest a secret is bcrypt over the base64 of its SHA-256 (the scheme known as
// bcrypt-sha256), so that all of a long secret counts and not only its first 72
// bytes. bcrypt is slow by intent; a region that is asked for tokens all day
// must not pay it each time. A check that succeeded is therefore remembered as a
// HMAC, under a random key that never leaves this process, of the stored hash
// and the secret. Changing a password changes the stored hash, so nothing needs
// to be invalidated, and failures are never remembered.
package password

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// DefaultCost is keystone's [identity] password_hash_rounds when bcrypt is used.
const DefaultCost = bcrypt.DefaultCost + 2

// MaxLength is keystone's [identity] max_password_length, in bytes.
const MaxLength = 4096

// remembered bounds each of the cache's two generations.
const remembered = 16384

// Hasher hashes and checks secrets. It is safe for concurrent use.
type Hasher struct {
	cost  int
	key   [32]byte
	slots chan struct{} // bcrypt computations at a time
	dummy func() []byte

	mu         sync.RWMutex
	young, old map[[32]byte]struct{}
}

// New makes a Hasher; cost 0 means DefaultCost.
func New(cost int) (*Hasher, error) {
	if cost == 0 {
		cost = DefaultCost
	}
	if cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
		return nil, fmt.Errorf("bcrypt cost %d is not between %d and %d", cost, bcrypt.MinCost, bcrypt.MaxCost)
	}
	h := &Hasher{cost: cost, slots: make(chan struct{}, runtime.GOMAXPROCS(0)), young: map[[32]byte]struct{}{}}
	rand.Read(h.key[:])
	h.dummy = sync.OnceValue(func() []byte {
		out, _ := bcrypt.GenerateFromPassword([]byte(rand.Text()), cost)
		return out
	})
	return h, nil
}

func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

func (h *Hasher) enter(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Hash makes the form that is kept.
func (h *Hasher) Hash(ctx context.Context, secret string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	out, err := bcrypt.GenerateFromPassword(digest(secret), h.cost)
	return string(out), err
}

// Check tells whether the secret belongs to the hash. An empty hash (no such
// user, or one without a password) costs as much time as a wrong secret and is
// never right.
func (h *Hasher) Check(ctx context.Context, hash, secret string) bool {
	if len(secret) > MaxLength {
		return false
	}
	tag := h.tag(hash, secret)
	if hash != "" && h.knows(tag) {
		return true
	}
	if h.enter(ctx) != nil {
		return false
	}
	defer func() { <-h.slots }()
	if hash == "" {
		_ = bcrypt.CompareHashAndPassword(h.dummy(), digest(secret))
		return false
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), digest(secret)) != nil {
		return false
	}
	h.remember(tag)
	return true
}

func (h *Hasher) tag(hash, secret string) (tag [32]byte) {
	m := hmac.New(sha256.New, h.key[:])
	m.Write([]byte(hash))
	m.Write([]byte{0})
	m.Write([]byte(secret))
	m.Sum(tag[:0])
	return tag
}

func (h *Hasher) knows(tag [32]byte) bool {
	h.mu.RLock()
	_, young := h.young[tag]
	_, old := h.old[tag]
	h.mu.RUnlock()
	if old && !young {
		h.remember(tag)
	}
	return young || old
}

// remember keeps the tag; of two generations the older is dropped when the younger is full.
func (h *Hasher) remember(tag [32]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.young) >= remembered {
		h.old, h.young = h.young, map[[32]byte]struct{}{}
	}
	h.young[tag] = struct{}{}
}
