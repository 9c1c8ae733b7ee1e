package names

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Entry is a container on a network.
type Entry struct {
	ID    string   // of the endpoint
	Names []string // the first is what its address is called
	Addrs []netip.Addr
}

// Table is who is called what. The zero value is empty.
type Table struct {
	mu   sync.RWMutex
	nets map[string]*zone
}

// zone is one network.
type zone struct {
	entries map[string]Entry
	names   map[string][]string // name to ids of endpoints, in the order of their coming
	addrs   map[netip.Addr]string
}

// Set adds an entry to a network, or puts it in the place of the one with its id.
func (t *Table) Set(network string, e Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nets == nil {
		t.nets = map[string]*zone{}
	}
	z := t.nets[network]
	if z == nil {
		z = &zone{entries: map[string]Entry{}, names: map[string][]string{}, addrs: map[netip.Addr]string{}}
		t.nets[network] = z
	}
	z.remove(e.ID)
	z.entries[e.ID] = e
	for _, n := range e.Names {
		n = strings.ToLower(n)
		if !slices.Contains(z.names[n], e.ID) {
			z.names[n] = append(z.names[n], e.ID)
		}
	}
	for _, a := range e.Addrs {
		z.addrs[a] = e.ID
	}
}

// Remove takes an entry out. One that is not there is no error.
func (t *Table) Remove(network, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	z := t.nets[network]
	if z == nil {
		return
	}
	z.remove(id)
	if len(z.entries) == 0 {
		delete(t.nets, network)
	}
}

func (z *zone) remove(id string) {
	e, ok := z.entries[id]
	if !ok {
		return
	}
	delete(z.entries, id)
	for _, n := range e.Names {
		n = strings.ToLower(n)
		z.names[n] = slices.DeleteFunc(slices.Clone(z.names[n]), func(o string) bool { return o == id })
		if len(z.names[n]) == 0 {
			delete(z.names, n)
		}
	}
	for _, a := range e.Addrs {
		if z.addrs[a] == id {
			delete(z.addrs, a)
		}
	}
}

// Lookup gives the addresses of all who have a name on a network; known tells whether
// anyone has it.
func (t *Table) Lookup(network, name string) (addrs []netip.Addr, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	z := t.nets[network]
	if z == nil {
		return nil, false
	}
	ids := z.names[strings.ToLower(name)]
	for _, id := range ids {
		addrs = append(addrs, z.entries[id].Addrs...)
	}
	return addrs, len(ids) > 0
}

// Reverse gives the name of who has an address; "" when no one has.
func (t *Table) Reverse(network string, a netip.Addr) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	z := t.nets[network]
	if z == nil {
		return ""
	}
	if e, ok := z.entries[z.addrs[a]]; ok && len(e.Names) > 0 {
		return e.Names[0]
	}
	return ""
}

// Member is a container's place on a network, from its own view.
type Member struct {
	Network, Name string            // id and name of the network
	Links         map[string]string // its own words for others: alias to name
}

// find gives the addresses for a name as a container sees it: NAME, or NAME.NETWORK.
// Both may have dots.
func (t *Table) find(members []Member, name string) ([]netip.Addr, bool) {
	host, network := name, ""
	for {
		for _, own := range []bool{true, false} { // a container's own words go first
			for _, m := range members {
				if network != "" && !strings.EqualFold(network, m.Name) {
					continue
				}
				real, linked := m.Links[strings.ToLower(host)]
				if linked != own {
					continue
				}
				if !linked {
					real = host
				}
				if addrs, ok := t.Lookup(m.Network, real); ok {
					return addrs, true
				}
			}
		}
		i := strings.LastIndexByte(host, '.')
		if i < 0 {
			return nil, false
		}
		host, network = host[:i], name[i+1:]
	}
}

// reverse gives the full name of who has an address.
func (t *Table) reverse(members []Member, a netip.Addr) (string, bool) {
	for _, m := range members {
		if n := t.Reverse(m.Network, a); n != "" {
			return n + "." + m.Name, true
		}
	}
	return "", false
}
