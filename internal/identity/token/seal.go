package token

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// bytesVersion begins what is no token; the purpose is authenticated too, so that
	// what was sealed for one is not opened for another.
	bytesVersion = 2
	// maxSealed bounds what OpenBytes looks at.
	maxSealed = 16 << 10
)

// SealBytes seals something else than a token.
func (r *Ring) SealBytes(purpose string, plain []byte) string {
	buf := make([]byte, headSize+chacha20poly1305.NonceSizeX, headSize+chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	buf[0] = bytesVersion
	binary.BigEndian.PutUint32(buf[1:], r.primary)
	nonce := buf[headSize:]
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(r.aeads[r.primary].Seal(buf, nonce, plain, aboutBytes(buf, purpose)))
}

// OpenBytes reads what SealBytes made for the same purpose.
func (r *Ring) OpenBytes(purpose, text string) ([]byte, error) {
	if len(text) > maxSealed {
		return nil, ErrInvalid
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < headSize+chacha20poly1305.NonceSizeX || raw[0] != bytesVersion {
		return nil, ErrInvalid
	}
	a, ok := r.aeads[binary.BigEndian.Uint32(raw[1:headSize])]
	if !ok {
		return nil, ErrInvalid
	}
	plain, err := a.Open(nil, raw[headSize:headSize+chacha20poly1305.NonceSizeX], raw[headSize+chacha20poly1305.NonceSizeX:], aboutBytes(raw, purpose))
	if err != nil {
		return nil, ErrInvalid
	}
	return plain, nil
}

// aboutBytes is what is authenticated besides: the head and the purpose.
func aboutBytes(raw []byte, purpose string) []byte {
	return append(append([]byte{}, raw[:headSize]...), purpose...)
}
