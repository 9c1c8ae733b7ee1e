package region

import (
	"maps"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

func TestProviderNetworks(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		asked, want map[string]string
		fails       bool
	}{
		{nil, map[string]string{}, false},
		{map[string]string{"office": "lo"}, map[string]string{"office": "lo"}, false},
		{nil, map[string]string{"office": "lo"}, false},
		{map[string]string{"plant": "lo"}, nil, true},
		{map[string]string{"plant": "nosuchdev0"}, nil, true},
		{nil, map[string]string{"office": "lo"}, false},
		{map[string]string{"office": ""}, map[string]string{}, false},
		{nil, map[string]string{}, false},
	} {
		got, err := providerNetworks(&Config{DataDir: dir, ProviderNetworks: tc.asked})
		if (err != nil) != tc.fails || err != nil && !errs.Is(err, errs.Invalid) || !maps.Equal(got, tc.want) {
			t.Errorf("%v: %v, %v; want %v", tc.asked, got, err, tc.want)
		}
	}
	for _, bad := range []map[string]string{{"": "lo"}, {"a b": "lo"}, {"x": "a-name-that-is-too-long"}} {
		if err := validProviders(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
