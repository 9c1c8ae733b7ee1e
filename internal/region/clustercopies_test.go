package region

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/kube"
)

const copiedCluster = "0b7e2c1e-0d0f-4f0e-9a0a-000000000001"

// TestBackupOfCopies has clusters in a backup whose control planes are on other members, and
// after a restore what a control plane can begin with here.
func TestBackupOfCopies(t *testing.T) {
	dir, at := cloudDir(t), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	write(t, dir, map[string]string{
		filepath.Join(copiesDir, kube.CopyName(copiedCluster, at)):                "older",
		filepath.Join(copiesDir, kube.CopyName(copiedCluster, at.Add(time.Hour))): "newer",
		filepath.Join(copiesDir, "notes.txt"):                                     "the operator's",
	})
	file := filepath.Join(t.TempDir(), "b.zip")
	m, err := Backup(t.Context(), dir, file, "v1", Stopped{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil || m.Files[backupClusters+copiedCluster+snapshotSuffix] == "" || len(m.Files) != 4 {
		t.Fatalf("the backup has %v, %v", m, err)
	}
	target := filepath.Join(t.TempDir(), "data")
	if _, err := restore(t, file, target, false); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(kubeDir, copiedCluster, "control", "snapshot"), filepath.Join(copiesDir, kube.CopyName(copiedCluster, m.Created))} {
		if raw, err := os.ReadFile(filepath.Join(target, path)); err != nil || string(raw) != "newer" {
			t.Errorf("%s holds %q, %v", path, raw, err)
		}
	}
}

// TestCopyRoutes gives other members copies, and nothing else of this machine.
func TestCopyRoutes(t *testing.T) {
	dir, name := t.TempDir(), kube.CopyName(copiedCluster, time.Now())
	write(t, dir, map[string]string{filepath.Join("copies", name): "state", "secret": "x"})
	mux := http.NewServeMux()
	copyRoutes(mux, &kube.Copies{Dir: filepath.Join(dir, "copies")})
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/clusters":                   {200, "[\"" + name + "\"]\n"},
		"/clusters/" + name:           {200, "state"},
		"/clusters/..%2Fsecret":       {404, ""},
		"/clusters/" + name + ".part": {404, ""},
	} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want.status || want.body != "" && rec.Body.String() != want.body {
			t.Errorf("%s: %d %q", path, rec.Code, rec.Body)
		}
	}
}
