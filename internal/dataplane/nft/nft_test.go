package nft

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/netns"
)

func TestDiff(t *testing.T) {
	old := NewTable("inet", "x")
	old.Declare("m", "type mark : verdict")
	old.AddElement("m", "1", "goto a")
	old.AddElement("m", "2", "goto a")
	old.Chains["a"] = Chain{Rules: []string{"drop"}}
	now := NewTable("inet", "x")
	now.Declare("m", "type mark : verdict")
	now.AddElement("m", "2", "goto b")
	now.AddElement("m", "3", "goto b")
	now.Chains["b"] = Chain{Rules: []string{"accept"}}
	want := `add chain inet x b
delete element inet x m { 1, 2 }
add element inet x m { 2 : goto b, 3 : goto b }
add rule inet x b accept
flush chain inet x a
delete chain inet x a
`
	if got := strings.ReplaceAll(now.Diff(old), " \n", "\n"); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if got := now.Diff(now); got != "" {
		t.Errorf("equal tables differ by %q", got)
	}
}

// TestDiffReachesTheKernel walks through random tables: after each difference
// the kernel must list the same as after writing the table anew.
func TestDiffReachesTheKernel(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%d-nft", os.Getpid())
	ns, _, err := netns.Ensure(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close(); netns.Remove(name) })
	ctx := t.Context()
	if err := flag.Set("rapid.checks", "30"); err != nil { // each one starts programs
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		old := NewTable("inet", "x")
		must(rt, Run(ctx, ns, old.Replace()))
		for range 2 {
			now := randomTable(rt)
			must(rt, Run(ctx, ns, now.Diff(old)))
			got := list(rt, ctx, ns)
			must(rt, Run(ctx, ns, now.Replace()))
			if want := list(rt, ctx, ns); !slices.Equal(got, want) {
				rt.Fatalf("got %q, want %q", got, want)
			}
			old = now
		}
	})
}

func randomTable(t *rapid.T) Table {
	tab := NewTable("inet", "x")
	for _, c := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, "chains") {
		tab.Chains[c] = Chain{Rules: rapid.SliceOfN(rapid.SampledFrom([]string{"accept", "drop", "meta mark 7 accept"}), 0, 3).Draw(t, "rules")}
	}
	tab.Declare("m", "type mark : verdict")
	tab.Declare("s", "type mark . ipv4_addr; flags interval")
	chains := slices.Sorted(maps.Keys(tab.Chains))
	for i := range 5 {
		if len(chains) > 0 && rapid.Bool().Draw(t, "in map") {
			tab.AddElement("m", fmt.Sprintf("0x%08x", i), "goto "+rapid.SampledFrom(chains).Draw(t, "to"))
		}
		if rapid.Bool().Draw(t, "in set") {
			tab.AddElement("s", fmt.Sprintf("0x%08x . 10.0.%d.0/24", i, i), "")
		}
	}
	return tab
}

// list gives the statements and elements of the kernel's ruleset, sorted: sets have no order.
func list(t *rapid.T, ctx context.Context, ns *netns.NS) []string {
	out, err := run(ctx, ns, "", "list", "ruleset")
	must(t, err)
	// An element with its value is one field; what stands before and after it is not.
	out = strings.NewReplacer("elements = {", "\n", "}", "\n", ",", "\n", "\t", "").Replace(out)
	lines := strings.Split(out, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	return lines
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
