package bridge

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"reflect"
	"sync"

	"github.com/strata-cloud/strata/internal/netns"
)

// spareSpaces is how many namespaces are ready once the first container had one.
const spareSpaces = 4

// spares are namespaces that wait for containers: the kernel takes longer for making one
// than for giving it another name. Those of a process that was killed are removed by the
// next, and by Reset.
type spares struct {
	prefix string // of names
	owner  *netns.Owner
	most   int
	group  sync.WaitGroup

	mu     sync.Mutex
	names  []string
	busy   bool
	closed bool
}

func sparePrefix(name string) string { return name + "-s-" }

// removeSpares removes those that no process of the cloud knows of.
func removeSpares(name string) error {
	names, err := netns.List(sparePrefix(name))
	for _, n := range names {
		err = errors.Join(err, netns.Remove(n))
	}
	return err
}

// waiting are the spares of an owner; there are few owners, and most often one.
func (p *Plane) waiting(owner *netns.Owner) *spares {
	p.waits.Lock()
	defer p.waits.Unlock()
	for _, s := range p.spares {
		if reflect.DeepEqual(s.owner, owner) {
			return s
		}
	}
	s := &spares{prefix: sparePrefix(p.name), owner: owner, most: spareSpaces, closed: p.over}
	p.spares = append(p.spares, s)
	return s
}

// closeSpares removes all that wait.
func (p *Plane) closeSpares() (err error) {
	p.waits.Lock()
	defer p.waits.Unlock()
	p.over = true
	for _, s := range p.spares {
		err = errors.Join(err, s.close())
	}
	return err
}

// use gives a namespace that waits a container's name; false: there is none.
func (s *spares) use(name string) bool {
	s.mu.Lock()
	var spare string
	if n := len(s.names); n > 0 {
		spare, s.names = s.names[n-1], s.names[:n-1]
	}
	begin := s.most > 0 && !s.busy && !s.closed
	s.busy = s.busy || begin
	s.mu.Unlock()
	used := spare != "" && netns.Alias(spare, name) == nil
	if begin {
		s.group.Go(s.fill)
	}
	if spare != "" {
		s.group.Go(func() { netns.Remove(spare) }) // what stays is removed at the next start
	}
	return used
}

// fill makes as many as are missing.
func (s *spares) fill() {
	for s.missing() {
		var b [6]byte
		rand.Read(b[:])
		name := s.prefix + hex.EncodeToString(b[:])
		if err := makeSpace(name, s.owner); err != nil {
			netns.Remove(name)
			s.mu.Lock()
			s.busy = false
			s.mu.Unlock()
			return // who needs one makes it, and has the error
		}
		s.mu.Lock()
		s.names = append(s.names, name)
		s.mu.Unlock()
	}
}

func (s *spares) missing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = !s.closed && len(s.names) < s.most
	return s.busy
}

func (s *spares) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.group.Wait()
	var err error
	for _, n := range s.names {
		err = errors.Join(err, netns.Remove(n))
	}
	s.names = nil
	return err
}

// makeSpace makes a namespace, or what is missing of it. Without an owner it is the host's.
func makeSpace(name string, owner *netns.Owner) (err error) {
	var ns *netns.NS
	if owner == nil {
		ns, _, err = netns.Ensure(name)
	} else {
		ns, _, err = netns.EnsureOwned(name, *owner)
	}
	if err != nil {
		return err
	}
	defer ns.Close()
	h, err := ns.Link()
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}
