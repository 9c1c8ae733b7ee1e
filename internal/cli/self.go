package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// defaultDataDir is where a cloud lives when nothing else is said.
const defaultDataDir = "/var/lib/strata"

// startDataDir is the data directory when the command line names none.
func startDataDir() string {
	if dir := os.Getenv("STRATA_DATA_DIR"); dir != "" {
		return dir
	}
	return defaultDataDir
}

// self is how the user types this program for this data directory.
func (a *app) self() string {
	name := "strata"
	if exe, err := os.Executable(); err == nil {
		if found, err := exec.LookPath("strata"); err != nil || !sameFile(found, exe) {
			name = relative(exe)
		}
	}
	words := []string{name}
	if os.Getenv("SUDO_USER") != "" {
		words = []string{"sudo", name}
	}
	if a.dataDir != startDataDir() {
		words = append(words, "--data-dir", relative(a.dataDir))
	}
	return strings.Join(words, " ")
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// relative shortens a path below the working directory.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
