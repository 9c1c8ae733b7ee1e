package store

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// memory is a Backend for tests: revisions, history and watches without a disk.
type memory struct {
	mu      sync.Mutex
	keys    map[string][]version // ascending revisions
	log     []Batch              // one per revision after compacted
	rev     int64
	oldest  int64 // revisions before it are forgotten
	changed chan struct{}
	closed  bool
}

type version struct {
	rev   int64
	value []byte // nil: deleted
}

// NewMemory makes an empty Backend that forgets everything with the process.
func NewMemory() Backend {
	return &memory{keys: map[string][]version{}, rev: 1, oldest: 1, changed: make(chan struct{})}
}

var errClosed = errors.New("store: the backend is closed")

func (m *memory) latest(key string) version {
	vs := m.keys[key]
	if len(vs) == 0 || vs[len(vs)-1].value == nil {
		return version{}
	}
	return vs[len(vs)-1]
}

func (m *memory) Txn(ctx context.Context, compares []Compare, ops []Op) (TxnResult, error) {
	if err := ctx.Err(); err != nil {
		return TxnResult{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return TxnResult{}, errClosed
	}
	for _, c := range compares {
		if m.latest(c.Key).rev != c.ModRev {
			return TxnResult{Rev: m.rev}, nil
		}
	}
	rev := m.rev + 1
	var changes []Change
	for _, op := range ops {
		if op.Value == nil && m.latest(op.Key).value == nil {
			continue
		}
		value := slices.Clone(op.Value)
		m.keys[op.Key] = append(m.keys[op.Key], version{rev, value})
		changes = append(changes, Change{Key: op.Key, Value: value, ModRev: rev})
	}
	if len(changes) == 0 {
		return TxnResult{OK: true, Rev: m.rev}, nil
	}
	m.rev = rev
	m.log = append(m.log, Batch{Rev: rev, Changes: changes})
	close(m.changed)
	m.changed = make(chan struct{})
	return TxnResult{OK: true, Rev: rev}, nil
}

func (m *memory) Range(ctx context.Context, prefix string, opt RangeOptions) (RangeResult, error) {
	if err := ctx.Err(); err != nil {
		return RangeResult{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return RangeResult{}, errClosed
	}
	at := opt.Rev
	if at == 0 {
		at = m.rev
	}
	if at < m.oldest {
		return RangeResult{}, ErrCompacted
	}
	res := RangeResult{Rev: m.rev}
	for key, vs := range m.keys {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		for i := len(vs) - 1; i >= 0; i-- {
			if vs[i].rev <= at {
				if vs[i].value != nil {
					res.KVs = append(res.KVs, KV{Key: key, Value: vs[i].value, ModRev: vs[i].rev})
				}
				break
			}
		}
	}
	slices.SortFunc(res.KVs, func(a, b KV) int { return strings.Compare(a.Key, b.Key) })
	if opt.Limit > 0 && len(res.KVs) > opt.Limit {
		res.KVs, res.More = res.KVs[:opt.Limit], true
	}
	return res, nil
}

func (m *memory) Watch(ctx context.Context, from int64) <-chan Batch {
	out := make(chan Batch)
	go func() {
		defer close(out)
		for {
			b, wake := m.next(from)
			if b.Err == nil && b.Rev == 0 {
				select {
				case <-wake:
					continue
				case <-ctx.Done():
					return
				}
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
			from = b.Rev + 1
		}
	}()
	return out
}

// next is the batch of revision from, or a channel that closes when something happens.
func (m *memory) next(from int64) (Batch, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from = max(from, 2) // revision 1 is the empty key space
	switch {
	case m.closed:
		return Batch{Err: errClosed}, nil
	case from < m.oldest && m.oldest > 1:
		return Batch{Err: ErrCompacted}, nil
	case from > m.rev:
		return Batch{}, m.changed
	}
	return m.log[len(m.log)-int(m.rev-from)-1], nil
}

func (m *memory) Compact(_ context.Context, rev int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rev <= m.oldest {
		return nil
	}
	rev = min(rev, m.rev)
	for key, vs := range m.keys {
		keep := 0
		for keep+1 < len(vs) && vs[keep+1].rev <= rev {
			keep++
		}
		if vs = slices.Clone(vs[keep:]); len(vs) == 1 && vs[0].value == nil && vs[0].rev <= rev {
			delete(m.keys, key)
			continue
		}
		m.keys[key] = vs
	}
	m.oldest = rev
	if n := int(m.rev-rev) + 1; n < len(m.log) {
		m.log = slices.Clone(m.log[len(m.log)-n:])
	}
	return nil
}

func (m *memory) Snapshot(ctx context.Context, w io.Writer) error {
	res, err := m.Range(ctx, "", RangeOptions{})
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(res)
}

func (m *memory) Status(context.Context) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return Status{}, errClosed
	}
	return Status{Revision: m.rev, Members: 1}, nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.changed)
	}
	return nil
}
