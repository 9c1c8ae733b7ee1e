// Package nft models nftables tables as plain values, renders them, and
// renders the difference between two of them as one atomic script.
//
// The nft binary (Debian package nftables) runs the scripts: concatenated
// interval sets, verdict maps and conntrack zones are one readable line each in
// its language and pages of expressions through netlink, and a script is one
// transaction. Values are put into scripts as they are: whoever builds a model
// has parsed or validated them.
package nft

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/strata-cloud/strata/internal/netns"
)

// Table is one nftables table.
type Table struct {
	Family string // inet, bridge, ip, ip6
	Name   string
	Sets   map[string]Set
	Chains map[string]Chain
}

// Set is a set, or a map when its elements have values.
type Set struct {
	Decl     string            // "type mark : verdict", "type ipv4_addr; flags interval"
	Elements map[string]string // key to value; "" in a plain set
}

// Chain is a list of rules, hooked into the packet path when Hook is not empty.
type Chain struct {
	Hook  string // "type filter hook forward priority 0; policy accept"
	Rules []string
}

// NewTable makes an empty table.
func NewTable(family, name string) Table {
	return Table{Family: family, Name: name, Sets: map[string]Set{}, Chains: map[string]Chain{}}
}

// AddElement puts key, and value for a map, into the set called name, which
// must have been declared.
func (t Table) AddElement(name, key, value string) { t.Sets[name].Elements[key] = value }

// Declare adds an empty set or map.
func (t Table) Declare(name, decl string) {
	t.Sets[name] = Set{Decl: decl, Elements: map[string]string{}}
}

// Replace renders a script that puts t in the place of whatever table has its
// name, in one transaction.
func (t Table) Replace() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s\ndelete table %[1]s %[2]s\ntable %[1]s %[2]s\n", t.Family, t.Name)
	d := differ{Table: t, out: &b}
	d.diff(NewTable(t.Family, t.Name))
	return b.String()
}

// Diff renders a script that turns old, which the kernel has, into t. It is
// empty when they are equal.
func (t Table) Diff(old Table) string {
	for name, s := range t.Sets {
		if o, ok := old.Sets[name]; ok && o.Decl != s.Decl {
			return t.Replace()
		}
	}
	for name, c := range t.Chains {
		if o, ok := old.Chains[name]; ok && o.Hook != c.Hook {
			return t.Replace()
		}
	}
	var b strings.Builder
	d := differ{Table: t, out: &b}
	d.diff(old)
	return b.String()
}

// differ writes statements in an order in which every reference is to
// something that exists: declarations, emptied chains, elements, rules, removals.
type differ struct {
	Table
	out *strings.Builder
}

func (d differ) diff(old Table) {
	for _, name := range sorted(d.Chains) {
		if _, ok := old.Chains[name]; !ok {
			d.stmt("add chain", name, hook(d.Chains[name]))
		}
	}
	for _, name := range sorted(d.Sets) {
		if _, ok := old.Sets[name]; !ok {
			kind := "set"
			if strings.Contains(d.Sets[name].Decl, " : ") {
				kind = "map"
			}
			d.stmt("add "+kind, name, "{ "+d.Sets[name].Decl+"; }")
		}
	}
	var refill []string
	for _, name := range sorted(d.Chains) {
		o, ok := old.Chains[name]
		if ok && slices.Equal(o.Rules, d.Chains[name].Rules) {
			continue
		}
		if ok {
			d.stmt("flush chain", name, "")
		}
		refill = append(refill, name)
	}
	d.elements(old)
	for _, name := range refill {
		for _, r := range d.Chains[name].Rules {
			d.stmt("add rule", name, r)
		}
	}
	d.removals(old)
}

func (d differ) elements(old Table) {
	for _, name := range sorted(d.Sets) {
		was, is := old.Sets[name].Elements, d.Sets[name].Elements
		if strings.Contains(d.Sets[name].Decl, "interval") && len(without(was, is)) > 0 {
			// Kernels do not find a concatenated element to delete; an emptied set they refill.
			d.stmt("flush set", name, "")
			was = nil
		}
		var come []string
		gone := without(was, is)
		for _, k := range sorted(is) {
			if v, ok := was[k]; ok && v == is[k] {
				continue
			}
			if is[k] != "" {
				come = append(come, k+" : "+is[k])
				continue
			}
			come = append(come, k)
		}
		d.list("delete element", name, gone)
		d.list("add element", name, come)
	}
}

// without gives the keys of was that is lacks or gives another value.
func without(was, is map[string]string) []string {
	var gone []string
	for _, k := range sorted(was) {
		if v, ok := is[k]; !ok || v != was[k] {
			gone = append(gone, k)
		}
	}
	return gone
}

func (d differ) removals(old Table) {
	var dead []string
	for _, name := range sorted(old.Chains) {
		if _, ok := d.Chains[name]; !ok {
			d.stmt("flush chain", name, "")
			dead = append(dead, name)
		}
	}
	for _, name := range dead {
		d.stmt("delete chain", name, "")
	}
	for _, name := range sorted(old.Sets) {
		if _, ok := d.Sets[name]; !ok {
			kind := "set"
			if strings.Contains(old.Sets[name].Decl, " : ") {
				kind = "map"
			}
			d.stmt("delete "+kind, name, "")
		}
	}
}

func (d differ) stmt(verb, name, rest string) {
	fmt.Fprintf(d.out, "%s %s %s %s %s\n", verb, d.Family, d.Name, name, rest)
}

func (d differ) list(verb, name string, items []string) {
	if len(items) > 0 {
		d.stmt(verb, name, "{ "+strings.Join(items, ", ")+" }")
	}
}

func hook(c Chain) string {
	if c.Hook == "" {
		return ""
	}
	return "{ " + c.Hook + "; }"
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Run executes a script in ns as one transaction. An empty script does nothing.
func Run(ctx context.Context, ns *netns.NS, script string) error {
	if script == "" {
		return nil
	}
	_, err := run(ctx, ns, script, "-f", "-")
	return err
}

// Tables lists the tables of ns as "family name".
func Tables(ctx context.Context, ns *netns.NS) ([]string, error) {
	out, err := run(ctx, ns, "", "list", "tables")
	if err != nil {
		return nil, err
	}
	var tables []string
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "table "); ok {
			tables = append(tables, name)
		}
	}
	return tables, nil
}

// ListTable gives a table of ns as nft's JSON.
func ListTable(ctx context.Context, ns *netns.NS, family, name string) ([]byte, error) {
	out, err := run(ctx, ns, "", "-j", "list", "table", family, name)
	return []byte(out), err
}

// run starts nft inside ns: a child inherits the namespace of the thread that forks it.
func run(ctx context.Context, ns *netns.NS, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := ns.Do(cmd.Start); err != nil {
		return "", fmt.Errorf("starting nft in %s: %w", ns.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		msg, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("nft in %s: %w: %s", ns.Name, err, msg)
	}
	return stdout.String(), nil
}
