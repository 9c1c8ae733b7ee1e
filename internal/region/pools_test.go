package region

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/blockdev/local"
)

func TestVolumePools(t *testing.T) {
	other, err := os.MkdirTemp("/var/tmp", "strata-test-pool-") // that anybody can pass through
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	if err := os.Chmod(other, 0o711); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: t.TempDir(), VolumePools: map[string]string{"fast": other}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(other, Name(cfg.DataDir)+"-fast")
	for range 2 {
		pools, err := volumePools(&cfg)
		if err != nil || len(pools) != 2 || pools["fast"] != own || pools[local.Pool] != cfg.path(volumesDir) {
			t.Fatalf("%v, %v", pools, err)
		}
		cfg.VolumePools = nil // a later start knows it
	}
	for _, bad := range []map[string]string{{"fast": t.TempDir()}, {"new": filepath.Join(other, "none")}} {
		if _, err := volumePools(&Config{DataDir: cfg.DataDir, VolumePools: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	for _, bad := range []map[string]string{{"local": other}, {"../x": other}, {"X": other}, {"a": "relative"}} {
		if err := (&Config{DataDir: cfg.DataDir, VolumePools: bad}).Validate(); err == nil {
			t.Errorf("%v is valid", bad)
		}
	}
	if err := os.Rename(own, own+"-away"); err != nil {
		t.Fatal(err)
	}
	if _, err := volumePools(&cfg); err == nil {
		t.Error("a pool that is not mounted was made anew")
	}
	if err := os.Rename(own+"-away", own); err != nil {
		t.Fatal(err)
	}
	if err := removePools(t.Context(), &cfg); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(other); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
