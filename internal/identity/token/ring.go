package token

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Key is one sealing key.
type Key struct {
	ID     uint32    `json:"id"`
	Secret []byte    `json:"secret"` // 32 bytes
	Since  time.Time `json:"since"`  // when it became what it is
}

// LogValue keeps the secret out of logs.
func (k Key) LogValue() string { return fmt.Sprintf("key %d", k.ID) }

// KeySet is the stored form of a ring. The last key is staged, the one before
// it primary, all before those secondary.
type KeySet struct {
	Keys []Key `json:"keys"`
}

func newKey(id uint32, now time.Time) Key {
	secret := make([]byte, chacha20poly1305.KeySize)
	rand.Read(secret) // never fails
	return Key{ID: id, Secret: secret, Since: now}
}

// NewKeySet makes a primary and a staged key.
func NewKeySet(now time.Time) KeySet {
	return KeySet{Keys: []Key{newKey(1, now), newKey(2, now)}}
}

// PrimarySince is when the primary key began to seal.
func (s *KeySet) PrimarySince() time.Time {
	if len(s.Keys) < 2 {
		return time.Time{}
	}
	return s.Keys[len(s.Keys)-2].Since
}

// Rotate makes the staged key primary, stages a new one and forgets secondary
// keys whose last token has been expired for keep.
func (s *KeySet) Rotate(now time.Time, keep time.Duration) {
	last := s.Keys[len(s.Keys)-1]
	s.Keys = append(s.Keys, newKey(last.ID+1, now))
	// From here on the former primary only opens; Since says since when.
	s.Keys[len(s.Keys)-2].Since = now
	if n := len(s.Keys) - 3; n >= 0 {
		s.Keys[n].Since = now
	}
	s.Prune(now, keep)
}

// Prune forgets secondary keys that stopped sealing more than keep ago.
func (s *KeySet) Prune(now time.Time, keep time.Duration) bool {
	kept := slices.DeleteFunc(slices.Clone(s.Keys[:len(s.Keys)-2]), func(k Key) bool {
		return now.Sub(k.Since) > keep
	})
	changed := len(kept) != len(s.Keys)-2
	s.Keys = append(kept, s.Keys[len(s.Keys)-2:]...)
	return changed
}

// Ring seals and opens. It is read-only after NewRing and safe for concurrent use.
type Ring struct {
	primary uint32
	aeads   map[uint32]cipher.AEAD
}

// NewRing prepares a key set.
func NewRing(s KeySet) (*Ring, error) {
	if len(s.Keys) < 2 {
		return nil, errors.New("a key set needs a primary and a staged key")
	}
	r := &Ring{primary: s.Keys[len(s.Keys)-2].ID, aeads: map[uint32]cipher.AEAD{}}
	for _, k := range s.Keys {
		a, err := chacha20poly1305.NewX(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("token key %d: %w", k.ID, err)
		}
		r.aeads[k.ID] = a
	}
	return r, nil
}

const (
	version  = 1
	headSize = 1 + 4
	// maxText bounds what Open looks at, so that a huge header costs nothing.
	maxText = 1024
)

// ErrInvalid says that a text is not a token of ours, and no more than that.
var ErrInvalid = errors.New("not a valid token")

// Seal makes the text of a token.
func (r *Ring) Seal(p *Payload) string {
	buf := make([]byte, headSize+chacha20poly1305.NonceSizeX, 256)
	buf[0] = version
	binary.BigEndian.PutUint32(buf[1:], r.primary)
	nonce := buf[headSize:]
	rand.Read(nonce)
	head := buf[:headSize:headSize]
	plain := p.pack(make([]byte, 0, 160))
	return base64.RawURLEncoding.EncodeToString(r.aeads[r.primary].Seal(buf, nonce, plain, head))
}

// Open reads the text of a token. It does not look at the clock.
func (r *Ring) Open(text string) (*Payload, error) {
	if len(text) > maxText {
		return nil, ErrInvalid
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < headSize+chacha20poly1305.NonceSizeX || raw[0] != version {
		return nil, ErrInvalid
	}
	a, ok := r.aeads[binary.BigEndian.Uint32(raw[1:headSize])]
	if !ok {
		return nil, ErrInvalid
	}
	nonce, sealed := raw[headSize:headSize+chacha20poly1305.NonceSizeX], raw[headSize+chacha20poly1305.NonceSizeX:]
	plain, err := a.Open(nil, nonce, sealed, raw[:headSize])
	if err != nil {
		return nil, ErrInvalid
	}
	p, err := unpack(plain)
	if err != nil {
		return nil, ErrInvalid
	}
	return p, nil
}

// AuditText is an audit id as tokens show it (22 characters of base64url).
func AuditText(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// NewAuditID draws an audit id.
func NewAuditID() (id [16]byte) {
	rand.Read(id[:])
	return id
}
