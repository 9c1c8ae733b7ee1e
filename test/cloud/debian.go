package cloud

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/guest/guesttest"
	"github.com/strata-cloud/strata/internal/needs"
)

// Debian gives a directory with the files of Debian's packages, which are not installed:
// some would start a daemon.
func Debian(t testing.TB, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	Download(t, dir, packages...)
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		t.Fatalf("%v: %v, %v", packages, debs, err)
	}
	for _, deb := range debs {
		if out, err := exec.Command("dpkg", "-x", deb, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// Download has packages of Debian's in a directory, as they are.
func Download(t testing.TB, dir string, packages ...string) {
	t.Helper()
	download := exec.Command("apt-get", append([]string{"download", "-qq"}, packages...)...)
	download.Dir = dir
	var out []byte
	err := guesttest.WhereOnline(func() (err error) {
		out, err = download.CombinedOutput()
		return err
	})
	if err != nil {
		needs.Missing(t, "%v cannot be had from Debian: %v: %s", packages, err, out)
	}
}
