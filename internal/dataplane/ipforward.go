package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/netns"
)

// forwardDir holds, for each host (by the inode of its network namespace) and
// each cloud on it that turned ip_forward on, what it was before any of them
// did. Like the setting itself it lasts until the machine restarts.
const forwardDir = "/run/strata/ip_forward"

const forwardKey = "net/ipv4/ip_forward"

// TakeForward turns ip_forward on and remembers what it was.
func TakeForward(host *netns.NS, name string) error {
	dir, err := forwardFiles(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		var before []byte
		err := host.Do(func() (err error) { before, err = os.ReadFile(filepath.Join("/proc/sys", forwardKey)); return err })
		if err != nil {
			return fmt.Errorf("reading ip_forward: %w", err)
		}
		// A neighbour that came earlier knows better what the host's own value was.
		if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) > 0 {
			if b, err := os.ReadFile(others[0]); err == nil {
				before = b
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("remembering ip_forward: %w", err)
		}
		if err := os.WriteFile(file, before, 0o644); err != nil {
			return fmt.Errorf("remembering ip_forward: %w", err)
		}
	}
	return host.Sysctl(forwardKey, "1")
}

// GiveForward restores ip_forward when this cloud was the last to need it.
func GiveForward(host *netns.NS, name string) error {
	dir, err := forwardFiles(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	before, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("what ip_forward was: %w", err)
	}
	if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) == 1 {
		if err := host.Sysctl(forwardKey, strings.TrimSpace(string(before))); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("forgetting ip_forward: %w", err)
	}
	for _, d := range []string{dir, forwardDir, filepath.Dir(forwardDir)} {
		os.Remove(d) // when empty
	}
	return nil
}

func forwardFiles(host *netns.NS) (string, error) {
	ino, err := host.Inode()
	return filepath.Join(forwardDir, strconv.FormatUint(ino, 10)), err
}
