package placement

import (
	"container/heap"
	"iter"
	"sync"
)

// nodeClasses are what a server takes from its node.
var nodeClasses = [...]string{"VCPU", "MEMORY_MB", "DISK_GB"}

const memoryClass = 1 // in nodeClasses

// host is a node's provider in numbers.
type host struct {
	from             *Provider // which it was made of
	room             [len(nodeClasses)]int64
	least, most, per [len(nodeClasses)]int64 // units; per 0: it has none of the class
}

func hostOf(p *Provider) host {
	h := host{from: p}
	for i, class := range nodeClasses {
		if inv, ok := p.Inventories[class]; ok {
			h.room[i], h.least[i], h.most[i], h.per[i] = inv.Capacity()-p.Used[class], inv.MinUnit, inv.MaxUnit, max(inv.StepSize, 1)
		}
	}
	return h
}

// holds tells the same as Provider.fits.
func (h *host) holds(want *[len(nodeClasses)]int64) bool {
	for i, n := range want {
		if n > 0 && (h.per[i] == 0 || n < h.least[i] || n > h.most[i] || n%h.per[i] != 0 || n > h.room[i]) {
			return false
		}
	}
	return true
}

// hosts keep the numbers of nodes between two looks: a record never changes, so that
// only those of new records have to be worked out.
type hosts struct {
	mu   sync.Mutex
	list []host         // of the providers at the last look, in their order
	at   map[string]int // in list, by node
}

// look brings the list up to date. mu is held.
func (hs *hosts) look(all []*Provider) {
	moved := len(all) != len(hs.list)
	if moved {
		hs.list = append(hs.list[:0:0], make([]host, len(all))...)
	}
	for i, p := range all {
		if old := hs.list[i].from; old != p {
			moved = moved || old == nil || old.Node != p.Node
			hs.list[i] = hostOf(p)
		}
	}
	if !moved {
		return
	}
	hs.at = make(map[string]int, len(all))
	for i, h := range hs.list {
		if h.from.Node != "" {
			hs.at[h.from.Node] = i
		}
	}
}

// fitting gives the nodes among the providers that can hold the need, in the order
// of free memory without what is about to be taken of it.
func (hs *hosts) fitting(all []*Provider, need Need, soon map[string]int) iter.Seq[string] {
	want := [len(nodeClasses)]int64{int64(need.VCPU), int64(need.MemoryMiB), int64(need.DiskGiB)}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.look(all)
	q := make(queue, 0, len(hs.list))
	at := make(map[int]int64, len(soon))
	for node, mib := range soon {
		if i, ok := hs.at[node]; ok {
			at[i] = int64(mib)
		}
	}
	for i := range hs.list {
		h := &hs.list[i]
		if h.from.Node == "" || !h.holds(&want) || !h.from.has(need.RequiredTraits, need.ForbiddenTraits) {
			continue
		}
		free := h.room[memoryClass]
		if len(at) > 0 {
			free -= at[i]
		}
		q = append(q, place{h.from.Node, free, i})
	}
	heap.Init(&q)
	return func(yield func(string) bool) {
		for left := q; len(left) > 0; {
			if !yield(heap.Pop(&left).(place).node) {
				return
			}
		}
	}
}

// place is a node that can hold a need.
type place struct {
	node string
	free int64 // MiB
	at   int   // decides between equals
}

// queue has the best place first.
type queue []place

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool {
	return q[i].free > q[j].free || q[i].free == q[j].free && q[i].at < q[j].at
}

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(place)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
