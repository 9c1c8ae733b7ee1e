package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

func TestReseedProgramRuns(t *testing.T) {
	needs.Root(t, "reseeding the kernel's random numbers")
	path := filepath.Join(t.TempDir(), "reseed")
	if err := os.WriteFile(path, reseedProgram(), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", path)
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err == nil {
		t.Error("it tells of success without the right to reseed")
	}
}
