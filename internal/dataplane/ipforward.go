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

// forwarding is a switch that makes the host a router. Its directory holds, for each
// host (by the inode of its network namespace) and each cloud on it that turned it on,
// what it was before any of them did. Like the setting itself it lasts until the
// machine restarts.
type forwarding struct{ dir, key string }

func forwarding4() forwarding { return forwarding{"/run/strata/ip_forward", "net/ipv4/ip_forward"} }

func forwarding6() forwarding {
	return forwarding{"/run/strata/ip6_forward", "net/ipv6/conf/all/forwarding"}
}

// TakeForward turns ip_forward on and remembers what it was.
func TakeForward(host *netns.NS, name string) error { return forwarding4().take(host, name) }

// GiveForward restores ip_forward when this cloud was the last to need it.
func GiveForward(host *netns.NS, name string) error { return forwarding4().give(host, name) }

// TakeForward6 does for IPv6 what TakeForward does.
func TakeForward6(host *netns.NS, name string) error { return forwarding6().take(host, name) }

// GiveForward6 does for IPv6 what GiveForward does.
func GiveForward6(host *netns.NS, name string) error { return forwarding6().give(host, name) }

func (f forwarding) take(host *netns.NS, name string) error {
	dir, err := f.files(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		var before []byte
		err := host.Do(func() (err error) { before, err = os.ReadFile(filepath.Join("/proc/sys", f.key)); return err })
		if err != nil {
			return fmt.Errorf("reading %s: %w", f.key, err)
		}
		// A neighbour that came earlier knows better what the host's own value was.
		if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) > 0 {
			if b, err := os.ReadFile(others[0]); err == nil {
				before = b
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("remembering %s: %w", f.key, err)
		}
		if err := os.WriteFile(file, before, 0o644); err != nil {
			return fmt.Errorf("remembering %s: %w", f.key, err)
		}
	}
	return host.Sysctl(f.key, "1")
}

func (f forwarding) give(host *netns.NS, name string) error {
	dir, err := f.files(host)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name)
	before, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("what %s was: %w", f.key, err)
	}
	if others, _ := filepath.Glob(filepath.Join(dir, "*")); len(others) == 1 {
		if err := host.Sysctl(f.key, strings.TrimSpace(string(before))); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("forgetting %s: %w", f.key, err)
	}
	for _, d := range []string{dir, f.dir, filepath.Dir(f.dir)} {
		os.Remove(d) // when empty
	}
	return nil
}

func (f forwarding) files(host *netns.NS) (string, error) {
	ino, err := host.Inode()
	return filepath.Join(f.dir, strconv.FormatUint(ino, 10)), err
}
