package region

import (
	"slices"
	"testing"
)

// TestRegistryNames are what people call the registry that an API's address has.
func TestRegistryNames(t *testing.T) {
	for _, c := range []struct {
		api, cluster string
		want         []string
	}{
		{"http://127.0.0.1:5000", "", []string{"127.0.0.1:5000", "localhost:5000"}},
		{"http://localhost:5000", "", []string{"localhost:5000", "127.0.0.1:5000"}},
		{"https://192.0.2.1:5000", "https://192.0.2.1:5001", []string{"192.0.2.1:5000"}},
		{"https://192.0.2.1:5000", "https://198.51.100.1:5001", []string{"192.0.2.1:5000"}},
		{"https://alpha:5000", "https://192.0.2.1:5001", []string{"alpha:5000", "192.0.2.1:5000"}},
		{"https://alpha:5000", "", []string{"alpha:5000"}},
		{"https://[2001:db8::1]:5000", "", []string{"[2001:db8::1]:5000"}},
		{"", "https://192.0.2.1:5001", nil},
		{"%", "", nil},
	} {
		if got := registryNames(c.api, c.cluster); !slices.Equal(got, c.want) {
			t.Errorf("at %s, %s there are %v, want %v", c.api, c.cluster, got, c.want)
		}
	}
}
