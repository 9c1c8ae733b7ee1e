package image

import (
	"crypto/md5"
	"crypto/sha512"
	"io"
	"math/rand/v2"
	"testing"
)

// repeat reads the same random bytes until n have come.
type repeat struct {
	data []byte
	n    int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.n)], r.data)
	r.n -= int64(n)
	return n, nil
}

// BenchmarkIngest measures hashing, inspecting and writing 256 MiB, fsync included.
func BenchmarkIngest(b *testing.B) {
	t := start(b, nil)
	data := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(data) // never fails
	const size = 256 << 20
	b.SetBytes(size)
	for b.Loop() {
		blob, _, release, err := t.s.ingest(&repeat{data, size}, 1<<40)
		if err != nil {
			b.Fatal(err)
		}
		t.s.discard(blob)
		release()
	}
}

// BenchmarkFanOut is the same without a file.
func BenchmarkFanOut(b *testing.B) {
	data := make([]byte, 1<<20)
	const size = 256 << 20
	b.SetBytes(size)
	for b.Loop() {
		if _, err := fanOut(&repeat{data, size}, md5.New(), sha512.New(), &sniffer{}); err != nil {
			b.Fatal(err)
		}
	}
}
