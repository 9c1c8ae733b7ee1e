package container

import "testing"

func TestFullest(t *testing.T) {
	for _, c := range []struct {
		sizes map[string]int
		want  string
	}{
		{nil, ""},
		{map[string]int{"a": groupSize}, ""},
		{map[string]int{"a": groupSize, "b": 1}, "b"},
		{map[string]int{"a": 3, "b": groupSize - 1, "c": 7}, "b"},
		{map[string]int{"b": 2, "a": 2}, "a"},
	} {
		if got := fullest(c.sizes); got != c.want {
			t.Errorf("%v: %q, want %q", c.sizes, got, c.want)
		}
	}
}
