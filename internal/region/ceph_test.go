package region

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/errs"
)

// What is named on the command line is kept, with the key of the user that is named.
func TestKeepCeph(t *testing.T) {
	etc, cfg := t.TempDir(), &Config{DataDir: t.TempDir()}
	cfg.CephPool, cfg.CephConf = "strata@volumes", filepath.Join(etc, "ceph.conf")
	if err := keepCeph(cfg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "generate-minimal-conf") {
		t.Errorf("without a configuration: %v", err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ceph.conf", "[global]\nfsid = 8a7d6b1e-0000-4000-8000-000000000001\nkeyring = /elsewhere\nmon_host = 192.0.2.1\n")
	if err := keepCeph(cfg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "ceph auth get-or-create client.strata") {
		t.Errorf("without a key: %v", err)
	}
	write("ceph.client.strata.keyring", "the key")
	if err := keepCeph(cfg); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"conf": "[global]\nfsid = 8a7d6b1e-0000-4000-8000-000000000001\nmon_host = 192.0.2.1\n", "keyring": "the key", "access.json": `{"User":"strata","Pool":"volumes"}`} {
		path := cfg.path(filepath.Join(cephDir, name))
		got, err := os.ReadFile(path)
		fi, serr := os.Stat(path)
		if err != nil || serr != nil || string(got) != want || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is %q, %v, %v", name, got, err, serr)
		}
	}
}

func TestValidCeph(t *testing.T) {
	for pool, fine := range map[string]bool{"": true, "strata@volumes": true, "a.b@c-d": true, "volumes": false, "a@": false, "@b": false, "a@b/c": false, "-a@b": false} {
		if err := validCeph(pool, DefaultCephConf); (err == nil) != fine {
			t.Errorf("%q: %v", pool, err)
		}
	}
	if err := validCeph("a@b", "ceph.conf"); err == nil {
		t.Error("a file that depends on where one stands was taken")
	}
}
