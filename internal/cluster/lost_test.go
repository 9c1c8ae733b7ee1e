package cluster

import (
	"slices"
	"testing"
)

// TestServiceable marks what is lost and unmarks what is back, and leaves alone what others
// have said.
func TestServiceable(t *testing.T) {
	ours, theirs := taint{Key: outOfService, Value: givenUp, Effect: "NoExecute"}, taint{Key: outOfService, Value: "nodeshutdown", Effect: "NoExecute"}
	other := taint{Key: "node.kubernetes.io/unreachable", Effect: "NoExecute", TimeAdded: "2026-01-01T00:00:00Z"}
	for _, c := range []struct {
		name       string
		now        []taint
		lost, back bool
		want       []taint
	}{
		{"well", nil, false, true, nil},
		{"lost", []taint{other}, true, false, []taint{other, ours}},
		{"still lost", []taint{other, ours}, true, false, []taint{other, ours}},
		{"given up by an administrator", []taint{theirs}, true, false, []taint{theirs}},
		{"one of both hears of it", []taint{ours}, false, false, []taint{ours}},
		{"back", []taint{other, ours}, false, true, []taint{other}},
		{"back, and an administrator's to say so", []taint{theirs}, false, true, []taint{theirs}},
	} {
		before := slices.Clone(c.now)
		got, change := serviceable(c.now, c.lost, c.back)
		if !slices.Equal(got, c.want) || change == slices.Equal(c.now, c.want) || !slices.Equal(before, c.now) {
			t.Errorf("%s: %v %v, want %v", c.name, got, change, c.want)
		}
	}
}
