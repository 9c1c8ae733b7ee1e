package dockerwire

import (
	"regexp"
	"strings"
)

// Table finds the handler of a request.
type Table[H any] struct{ entries []entry[H] }

type entry[H any] struct {
	method string
	path   *regexp.Regexp
	handle H
}

// Add has a method of a path be handled. In a path {id} is one part, and {name} any
// number of them: images' names have slashes.
func (t *Table[H]) Add(method, path string, handle H) {
	re := strings.NewReplacer("{id}", "(?P<id>[^/]+)", "{name}", "(?P<name>.+)").Replace(path)
	t.entries = append(t.entries, entry[H]{method, regexp.MustCompile("^" + re + "$"), handle})
}

// Find gives the handler, the first that fits, and fills in the request's Vars.
func (t *Table[H]) Find(r *Request) (handle H, ok bool) {
	for _, e := range t.entries {
		m := e.path.FindStringSubmatch(r.Path)
		if m == nil || e.method != r.Method {
			continue
		}
		for i, name := range e.path.SubexpNames() {
			r.Vars[name] = m[i]
		}
		return e.handle, true
	}
	return handle, false
}
