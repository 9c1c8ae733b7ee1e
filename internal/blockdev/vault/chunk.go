package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/strata-cloud/strata/internal/errs"
)

// box names and wraps chunks; with a key it seals them.
type box struct {
	seal cipher.AEAD // nil: in the clear
	mac  []byte
	enc  *zstd.Encoder
	dec  *zstd.Decoder
}

func newBox(key []byte) (*box, error) {
	b := &box{}
	var err error
	if b.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	if b.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*ChunkSize)); err != nil {
		return nil, err
	}
	if len(key) == 0 {
		return b, nil
	}
	keys, err := hkdf.Key(sha256.New, key, nil, "strata backup chunks", 64)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		return nil, err
	}
	b.mac = keys[32:]
	b.seal, err = cipher.NewGCM(block)
	return b, err
}

func (b *box) close() { b.dec.Close() }

func (b *box) name(data []byte) name {
	if b.seal == nil {
		return sha256.Sum256(data)
	}
	m := hmac.New(sha256.New, b.mac)
	m.Write(data)
	return name(m.Sum(nil))
}

// wrap makes what is stored. The nonce depends on the content, so that it is never
// used for two contents.
func (b *box) wrap(n name, data []byte) []byte {
	packed := b.enc.EncodeAll(data, nil)
	if b.seal == nil {
		return packed
	}
	return b.seal.Seal(nil, n[:b.seal.NonceSize()], packed, n[:])
}

// unwrap undoes wrap and checks the content.
func (b *box) unwrap(n name, stored []byte) (data []byte, err error) {
	if b.seal != nil {
		if stored, err = b.seal.Open(nil, n[:b.seal.NonceSize()], stored, n[:]); err != nil {
			return nil, err
		}
	}
	if data, err = b.dec.DecodeAll(stored, nil); err != nil {
		return nil, err
	}
	if b.name(data) != n {
		return nil, errors.New("its content is not what its name says")
	}
	return data, nil
}

// fetch reads a chunk of the vault.
func (v *Vault) fetch(ctx context.Context, b *box, n name) ([]byte, error) {
	stored, err := v.blobs.Get(ctx, n.blob())
	if err == nil {
		var data []byte
		if data, err = b.unwrap(n, stored); err == nil {
			return data, nil
		}
	}
	return nil, errs.New(errs.Internal, "%s is damaged: %w", n.blob(), err)
}

// store keeps a chunk unless it is there, and tells how many bytes that took.
func (v *Vault) store(ctx context.Context, b *box, n name, data []byte) (int64, error) {
	if has, err := v.blobs.Has(ctx, n.blob()); has || err != nil {
		return 0, err
	}
	packed := b.wrap(n, data)
	if err := v.blobs.Put(ctx, n.blob(), packed); err != nil {
		return 0, fmt.Errorf("storing a chunk: %w", err)
	}
	return int64(len(packed)), nil
}
