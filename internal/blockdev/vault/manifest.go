package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/strata-cloud/strata/internal/errs"
)

// The kinds of blobs.
const (
	kindChunk    = "chunks"
	kindManifest = "manifests"
)

// name is a chunk's name in binary form; the zero value stands for zeroes, which
// are not stored.
type name [sha256.Size]byte

func (n name) blob() string { return kindChunk + "/" + hex.EncodeToString(n[:]) }

// manifest is one backup: a line of JSON, the chunks' names, and a checksum of both.
type manifest struct {
	Format int    `json:"format"`
	Parent string `json:"parent,omitempty"`
	Size   int64  `json:"size"`  // of the volume, bytes
	Chunk  int64  `json:"chunk"` // bytes of each but the last one
	Sealed bool   `json:"sealed"`
	Stored int64  `json:"stored"` // bytes that were stored for this backup
	names  []name
}

const manifestFormat = 1

var idPattern = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,99}$`)

func manifestBlob(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", errs.Invalidf("%q is no id of a backup", id)
	}
	return kindManifest + "/" + id, nil
}

func (m *manifest) encode() ([]byte, error) {
	out, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out = append(out, '\n')
	for _, n := range m.names {
		out = append(out, n[:]...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...), nil
}

func decodeManifest(data []byte) (*manifest, error) {
	if len(data) < sha256.Size {
		return nil, errors.New("it is cut off")
	}
	body := data[:len(data)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(body):]) {
		return nil, errors.New("its checksum is wrong")
	}
	head, rest, _ := bytes.Cut(body, []byte{'\n'})
	var m manifest
	if err := json.Unmarshal(head, &m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat || m.Chunk <= 0 || m.Size < 0 || int64(len(rest)) != (m.Size+m.Chunk-1)/m.Chunk*sha256.Size {
		return nil, fmt.Errorf("it makes no sense: format %d, %d bytes", m.Format, m.Size)
	}
	for ; len(rest) > 0; rest = rest[sha256.Size:] {
		m.names = append(m.names, name(rest[:sha256.Size]))
	}
	return &m, nil
}

func (v *Vault) manifest(ctx context.Context, id string) (*manifest, error) {
	blob, err := manifestBlob(id)
	if err != nil {
		return nil, err
	}
	data, err := v.blobs.Get(ctx, blob)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.NotFoundf("backup %s is not in the vault", id)
	} else if err != nil {
		return nil, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("the manifest of backup %s is damaged: %w", id, err)
	}
	return m, nil
}
