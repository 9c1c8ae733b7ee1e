package store

import (
	"slices"
	"strings"
)

// bucketChunk bounds what one insertion has to move.
const bucketChunk = 256

// bucket is a set of records sorted by id: a list of sorted chunks, so that a
// change costs a small copy however large the set is.
type bucket[T any] struct {
	chunks [][]*rec[T]
	n      int
}

// chunkOf is the index of the chunk that holds id or should.
func (b *bucket[T]) chunkOf(id string) int {
	lo, hi := 0, len(b.chunks)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if b.chunks[mid][0].id <= id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return max(lo-1, 0)
}

func find[T any](chunk []*rec[T], id string) (int, bool) {
	return slices.BinarySearchFunc(chunk, id, func(r *rec[T], id string) int { return strings.Compare(r.id, id) })
}

// set inserts or replaces the record with r's id.
func (b *bucket[T]) set(r *rec[T]) {
	if len(b.chunks) == 0 {
		b.chunks, b.n = [][]*rec[T]{{r}}, 1
		return
	}
	ci := b.chunkOf(r.id)
	chunk := b.chunks[ci]
	i, found := find(chunk, r.id)
	if found {
		chunk[i] = r
		return
	}
	chunk = slices.Insert(chunk, i, r)
	b.n++
	if len(chunk) <= bucketChunk {
		b.chunks[ci] = chunk
		return
	}
	// A full last chunk keeps what it has: ids that arrive in order fill chunks wholly.
	cut := len(chunk) / 2
	if ci == len(b.chunks)-1 && i == len(chunk)-1 {
		cut = len(chunk) - 1
	}
	right := slices.Clone(chunk[cut:])
	clear(chunk[cut:])
	b.chunks[ci] = chunk[:cut]
	b.chunks = slices.Insert(b.chunks, ci+1, right)
}

// del removes the record with that id, if it is there.
func (b *bucket[T]) del(id string) {
	if len(b.chunks) == 0 {
		return
	}
	ci := b.chunkOf(id)
	i, found := find(b.chunks[ci], id)
	if !found {
		return
	}
	b.n--
	if len(b.chunks[ci]) == 1 {
		b.chunks = slices.Delete(b.chunks, ci, ci+1)
		return
	}
	b.chunks[ci] = slices.Delete(b.chunks[ci], i, i+1)
}

// count is the number of records; a nil bucket is empty.
func (b *bucket[T]) count() int {
	if b == nil {
		return 0
	}
	return b.n
}

// each calls fn for every record in order of id; a nil bucket is empty.
func (b *bucket[T]) each(fn func(*rec[T])) {
	if b == nil {
		return
	}
	for _, chunk := range b.chunks {
		for _, r := range chunk {
			fn(r)
		}
	}
}

// appendTo adds the records in order of id, leaving out those that skip names.
func (b *bucket[T]) appendTo(out []*T, skip func(id string) bool) []*T {
	if b == nil {
		return out
	}
	out = slices.Grow(out, b.n)
	for _, chunk := range b.chunks {
		for _, r := range chunk {
			if skip == nil || !skip(r.id) {
				out = append(out, r.val)
			}
		}
	}
	return out
}
