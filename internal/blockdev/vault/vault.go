package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// ChunkSize is how many bytes of a volume one chunk has.
const ChunkSize = 1 << 20

// Vault keeps backups. It is the only one that works on its blobs.
type Vault struct {
	blobs Blobs

	making  sync.RWMutex // read: a backup is being made or read
	garbage atomic.Bool  // there may be chunks that no manifest names
	secret  sync.Mutex   // the key of records is read or made
}

// New opens a vault.
func New(b Blobs) *Vault {
	v := &Vault{blobs: b}
	v.garbage.Store(true) // as an interrupted backup leaves it
	return v
}

// Make stores the device's content as the backup id, unless that is there. Content
// of an encrypted volume is sealed with its key. NotFound: there is no parent.
func (v *Vault) Make(ctx context.Context, id, parent string, key []byte, d volumes.Device) (nodeapi.BackupResult, error) {
	blob, err := manifestBlob(id)
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	v.making.RLock()
	defer v.making.RUnlock()
	if m, err := v.manifest(ctx, id); err == nil {
		return m.result(), nil
	} else if !errs.Is(err, errs.NotFound) {
		return nodeapi.BackupResult{}, err
	}
	if parent != "" {
		if _, err := v.manifest(ctx, parent); err != nil {
			return nodeapi.BackupResult{}, err
		}
	}
	m := &manifest{Format: manifestFormat, Parent: parent, Size: d.Size(), Chunk: ChunkSize, Sealed: len(key) > 0}
	if err := v.copyIn(ctx, m, key, d); err != nil {
		v.garbage.Store(true)
		return nodeapi.BackupResult{}, fmt.Errorf("making backup %s: %w", id, err)
	}
	data, err := m.encode()
	if err != nil {
		return nodeapi.BackupResult{}, err
	}
	if err := v.blobs.Put(ctx, blob, data); err != nil {
		return nodeapi.BackupResult{}, fmt.Errorf("making backup %s: %w", id, err)
	}
	return m.result(), nil
}

// result counts the chunks that the backup refers to.
func (m *manifest) result() nodeapi.BackupResult {
	seen := map[name]bool{{}: true}
	for _, n := range m.names {
		seen[n] = true
	}
	return nodeapi.BackupResult{Bytes: m.Stored, Objects: len(seen) - 1}
}

// copyIn stores the device's chunks and notes their names.
func (v *Vault) copyIn(ctx context.Context, m *manifest, key []byte, d volumes.Device) error {
	b, err := newBox(key)
	if err != nil {
		return err
	}
	defer b.close()
	m.names = make([]name, (m.Size+m.Chunk-1)/m.Chunk)
	buf := make([]byte, m.Chunk)
	dataTo := int64(-1) // the device has data up to here, as far as is known
	zeroTo := int64(-1)
	for i := range m.names {
		off := int64(i) * m.Chunk
		part := buf[:min(m.Chunk, m.Size-off)]
		end := off + int64(len(part))
		for zeroTo < end && dataTo <= off { // neither is known
			at := max(off, zeroTo)
			extents, err := d.Map(at, m.Size-at)
			if err != nil {
				return err
			}
			for _, e := range extents {
				at += e.Length
				if !e.Zero {
					dataTo = at
					break
				}
				zeroTo = at
			}
		}
		if zeroTo >= end {
			continue
		}
		if _, err := d.ReadAt(part, off); err != nil && err != io.EOF {
			return err
		}
		if allZero(part) {
			continue
		}
		m.names[i] = b.name(part)
		n, err := v.store(ctx, b, m.names[i], part)
		if err != nil {
			return err
		}
		m.Stored += n
	}
	return ctx.Err()
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Restore writes a backup over the device, which is at least as large. Invalid: it
// is not, or the backup is of an encrypted volume with another key.
func (v *Vault) Restore(ctx context.Context, id string, key []byte, d volumes.Device) error {
	v.making.RLock()
	defer v.making.RUnlock()
	m, err := v.manifest(ctx, id)
	switch {
	case err != nil:
		return err
	case m.Size > d.Size():
		return errs.Invalidf("backup %s needs a volume of %d bytes, and this one has %d", id, m.Size, d.Size())
	case m.Sealed && len(key) == 0:
		return errs.Invalidf("backup %s is of an encrypted volume and needs its key", id)
	case !m.Sealed:
		key = nil
	}
	if err := v.copyOut(ctx, m, key, d); err != nil {
		return fmt.Errorf("restoring backup %s: %w", id, err)
	}
	return nil
}

func (v *Vault) copyOut(ctx context.Context, m *manifest, key []byte, d volumes.Device) error {
	b, err := newBox(key)
	if err != nil {
		return err
	}
	defer b.close()
	off := int64(0)
	for i, n := range m.names {
		length := min(m.Chunk, m.Size-off)
		if n == (name{}) {
			err = d.Zero(off, length)
		} else {
			err = v.writeChunk(ctx, b, n, off, length, d)
		}
		if err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		off += length
	}
	return errors.Join(d.Zero(off, d.Size()-off), d.Flush())
}

func (v *Vault) writeChunk(ctx context.Context, b *box, n name, off, length int64, d volumes.Device) error {
	data, err := v.fetch(ctx, b, n)
	if err != nil {
		return err
	}
	if int64(len(data)) != length {
		return fmt.Errorf("it has %d bytes instead of %d", len(data), length)
	}
	_, err = d.WriteAt(data, off)
	return err
}

// Delete removes the backup, and then the chunks that no other one needs. While a
// backup is being made those stay until the next removal.
func (v *Vault) Delete(ctx context.Context, id string) error {
	blob, err := manifestBlob(id)
	if err != nil {
		return err
	}
	if has, err := v.blobs.Has(ctx, blob); err != nil {
		return err
	} else if has {
		v.garbage.Store(true)
		if err := v.blobs.Delete(ctx, blob); err != nil {
			return fmt.Errorf("removing backup %s: %w", id, err)
		}
	}
	return v.collect(ctx)
}

// collect removes chunks that no manifest names. A manifest that cannot be read
// stops it: its chunks are not known.
func (v *Vault) collect(ctx context.Context) error {
	if !v.garbage.Load() || !v.making.TryLock() {
		return nil
	}
	defer v.making.Unlock()
	needed := map[string]bool{}
	ids, err := v.blobs.List(ctx, kindManifest)
	if err != nil {
		return err
	}
	for _, id := range ids {
		m, err := v.manifest(ctx, id)
		if err != nil {
			return fmt.Errorf("collecting chunks that nothing needs: %w", err)
		}
		for _, n := range m.names {
			needed[n.blob()] = true
		}
	}
	chunks, err := v.blobs.List(ctx, kindChunk)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		if blob := kindChunk + "/" + c; !needed[blob] {
			if err := v.blobs.Delete(ctx, blob); err != nil {
				return err
			}
		}
	}
	v.garbage.Store(false)
	return nil
}
