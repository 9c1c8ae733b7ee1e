package balancer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

func members(weights ...int) []nodeapi.LBMember {
	var out []nodeapi.LBMember
	for i, w := range weights {
		out = append(out, nodeapi.LBMember{ID: fmt.Sprintf("m%d", i), Weight: w})
	}
	return out
}

func count(slots []string) map[string]int {
	out := map[string]int{}
	for _, s := range slots {
		out[s]++
	}
	return out
}

func TestInTurn(t *testing.T) {
	if got := inTurn(members(5, 5)); !slices.Equal(got, []string{"m0", "m1"}) {
		t.Errorf("equal weights: %v", got)
	}
	if got := inTurn(members(4, 2, 2)); !slices.Equal(got, []string{"m0", "m1", "m2", "m0"}) {
		t.Errorf("4, 2, 2: %v", got)
	}
	var many []int
	for i := range 200 {
		many = append(many, 1+i%256)
	}
	list := inTurn(members(many...))
	got := count(list)
	if len(list) > 2*maxSlots || len(got) != 200 {
		t.Errorf("200 members: %d slots for %d", len(list), len(got))
	}
}

func TestLeastBusy(t *testing.T) {
	busy := map[string]int{"m0": 3, "m1": 0}
	got := leastBusy(members(1, 1), func(m string) int { return busy[m] })
	if !slices.Equal(got[:5], []string{"m1", "m1", "m1", "m0", "m1"}) {
		t.Errorf("after 3 and 0: %v", got[:5])
	}
	n := count(leastBusy(members(3, 1), func(string) int { return 0 }))
	if n["m0"] != 3*n["m1"] {
		t.Errorf("weights 3 and 1: %v", n)
	}
}

// TestByHash holds slots to weights, and to moving only when their own member goes.
func TestByHash(t *testing.T) {
	all := members(1, 1, 2)
	before := byHash(all)
	n := count(before)
	for m, want := range map[string]int{"m0": hashSlots / 4, "m1": hashSlots / 4, "m2": hashSlots / 2} {
		if n[m] < want*3/4 || n[m] > want*5/4 {
			t.Errorf("%s has %d slots of about %d", m, n[m], want)
		}
	}
	after := byHash(all[1:])
	for i := range before {
		if before[i] != "m0" && before[i] != after[i] {
			t.Fatalf("slot %d went from %s to %s though m0 is gone", i, before[i], after[i])
		}
	}
	if !slices.Equal(byHash([]nodeapi.LBMember{all[2], all[0], all[1]}), before) {
		t.Error("the order of members matters")
	}
}

func TestUsable(t *testing.T) {
	p := &nodeapi.LBPool{Members: []nodeapi.LBMember{{ID: "a", Weight: 1}, {ID: "b", Weight: 1, Backup: true}, {ID: "c", Weight: 0}}}
	ids := func(up ...string) (out []string) {
		for _, m := range usable(p, func(m string) bool { return slices.Contains(up, m) }) {
			out = append(out, m.ID)
		}
		return out
	}
	if got := ids("a", "b", "c"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("all up: %v", got)
	}
	if got := ids("b", "c"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("a is down: %v", got)
	}
	if got := ids("c"); len(got) != 0 {
		t.Errorf("only the one without a weight: %v", got)
	}
}
