package ingress

import (
	"cmp"
	"path"
	"slices"
	"strings"

	networking "k8s.io/api/networking/v1"
)

// backend is a port of a Service, by number or by name.
type backend struct {
	namespace, service, name string
	number                   int32
}

func (b *backend) String() string { return b.namespace + "/" + b.service }

// rule leads requests below a path to a backend.
type rule struct {
	path  string
	exact bool
	to    *backend
}

// host is what Ingresses say of one host.
type host struct {
	rules []rule   // the longest path first, exact ones before others
	rest  *backend // of what no rule matches; nil: the table's
}

// table is all Ingresses.
type table struct {
	hosts map[string]*host // "*.example.org" is a wildcard, "" is every host
	rest  *backend
}

// newTable makes a table of the Ingresses. Where two say the same, the older one counts.
func newTable(list []*networking.Ingress) *table {
	t := &table{hosts: map[string]*host{}}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *networking.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, in := range list {
		rest := backendOf(in.Namespace, in.Spec.DefaultBackend)
		if t.rest == nil {
			t.rest = rest
		}
		for _, r := range in.Spec.Rules {
			name := strings.ToLower(r.Host)
			h := t.hosts[name]
			if h == nil {
				h = &host{}
				t.hosts[name] = h
			}
			if h.rest == nil {
				h.rest = rest
			}
			if r.HTTP == nil {
				continue
			}
			for _, p := range r.HTTP.Paths {
				if to := backendOf(in.Namespace, &p.Backend); to != nil {
					h.add(rule{path: p.Path, exact: p.PathType != nil && *p.PathType == networking.PathTypeExact, to: to})
				}
			}
		}
	}
	for _, h := range t.hosts {
		slices.SortStableFunc(h.rules, func(a, b rule) int {
			return cmp.Or(cmp.Compare(len(b.path), len(a.path)), -compareBool(a.exact, b.exact))
		})
	}
	return t
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// add keeps the first of two rules for the same.
func (h *host) add(r rule) {
	if r.path == "" {
		r.path = "/"
	}
	if !r.exact && len(r.path) > 1 {
		r.path = strings.TrimSuffix(r.path, "/") // a prefix is of whole elements
	}
	if !slices.ContainsFunc(h.rules, func(x rule) bool { return x.path == r.path && x.exact == r.exact }) {
		h.rules = append(h.rules, r)
	}
}

// backendOf is nil for what is no Service.
func backendOf(namespace string, b *networking.IngressBackend) *backend {
	if b == nil || b.Service == nil {
		return nil
	}
	return &backend{namespace: namespace, service: b.Service.Name, name: b.Service.Port.Name, number: b.Service.Port.Number}
}

// find is where a request goes; nil: nowhere.
func (t *table) find(name, asked string) *backend {
	h := t.host(strings.ToLower(name))
	if h == nil {
		return t.rest
	}
	asked = cleaned(asked)
	for i := range h.rules {
		if h.rules[i].matches(asked) {
			return h.rules[i].to
		}
	}
	if h.rest != nil {
		return h.rest
	}
	return t.rest
}

// cleaned is a path without detours, by which nobody gets past a rule.
func cleaned(p string) string {
	out := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && out != "/" {
		out += "/"
	}
	return out
}

// host is the most specific one: the name itself, a wildcard for its first label, every host.
func (t *table) host(name string) *host {
	if h := t.hosts[name]; h != nil && name != "" {
		return h
	}
	if _, domain, ok := strings.Cut(name, "."); ok {
		if h := t.hosts["*."+domain]; h != nil {
			return h
		}
	}
	return t.hosts[""]
}

func (r *rule) matches(path string) bool {
	if r.exact {
		return path == r.path
	}
	rest, ok := strings.CutPrefix(path, r.path)
	return ok && (r.path == "/" || rest == "" || rest[0] == '/')
}

// backends are all that the table leads to.
func (t *table) backends() []*backend {
	var out []*backend
	for _, h := range t.hosts {
		for i := range h.rules {
			out = append(out, h.rules[i].to)
		}
		out = append(out, h.rest)
	}
	return slices.DeleteFunc(append(out, t.rest), func(b *backend) bool { return b == nil })
}
