package integrity

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
)

// blockSize is the unit of the model: less than a cluster, so that writes share one.
const blockSize = 16 << 10

// model is what a volume may have in each block: its last content, and if that is
// not flushed, what it may have instead after a crash.
type model struct {
	last  []byte            // a block is filled with one byte
	older map[int]set[byte] // not flushed: what a crash may bring back
}

type set[T comparable] map[T]bool

func newModel(size int64) *model {
	return &model{last: make([]byte, size/blockSize), older: map[int]set[byte]{}}
}

func (m *model) size() int64 { return int64(len(m.last)) * blockSize }

func (m *model) clone() *model {
	return &model{last: slices.Clone(m.last), older: map[int]set[byte]{}}
}

func (m *model) write(from, n int, pattern byte) {
	for i := from; i < from+n; i++ {
		if m.older[i] == nil {
			m.older[i] = set[byte]{}
		}
		m.older[i][m.last[i]] = true
		m.last[i] = pattern
	}
}

func (m *model) flush() { m.older = map[int]set[byte]{} }

func (m *model) extend(size int64) {
	m.last = append(m.last, make([]byte, int(size/blockSize)-len(m.last))...)
}

// check compares a device with the model. After a crash the model is then what the
// device has.
func (m *model) check(d volumes.Device, crashed bool) error {
	if d.Size() != m.size() {
		return fmt.Errorf("it has %d bytes instead of %d", d.Size(), m.size())
	}
	got := make([]byte, m.size())
	if _, err := d.ReadAt(got, 0); err != nil {
		return err
	}
	for i, want := range m.last {
		b := got[i*blockSize : (i+1)*blockSize]
		if bytes.Count(b, b[:1]) != blockSize && !(crashed && m.older[i] != nil) {
			return fmt.Errorf("block %d is torn", i)
		}
		if b[0] == want {
			continue
		}
		if !crashed || !m.older[i][b[0]] {
			return fmt.Errorf("block %d has %d instead of %d (%v)", i, b[0], want, slices.Collect(maps.Keys(m.older[i])))
		}
		m.last[i] = b[0]
	}
	m.flush()
	return nil
}
