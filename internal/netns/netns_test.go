package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

func TestLifecycle(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%d-ns", os.Getpid())
	t.Cleanup(func() { Remove(name) })
	if _, err := Open(name); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open of an absent namespace: %v", err)
	}
	ns, made, err := Ensure(name)
	if err != nil || !made {
		t.Fatalf("first ensure: made %v, %v", made, err)
	}
	defer ns.Close()
	again, made, err := Ensure(name)
	if err != nil || made {
		t.Fatalf("second ensure: made %v, %v", made, err)
	}
	again.Close()
	inside := func() []net.Interface {
		var ifs []net.Interface
		if err := ns.Do(func() (err error) { ifs, err = net.Interfaces(); return err }); err != nil {
			t.Fatal(err)
		}
		return ifs
	}
	if slices.ContainsFunc(inside(), func(i net.Interface) bool { return i.Name != "lo" && i.Flags&net.FlagUp != 0 }) {
		t.Fatalf("a new namespace has a device that is up: %v", inside())
	}
	if err := ns.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	host, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	var in []byte
	ns.Do(func() (err error) { in, err = os.ReadFile("/proc/sys/net/ipv4/ip_forward"); return err })
	if string(in) != "1\n" {
		t.Fatalf("sysctl inside is %q (host %q)", in, host)
	}
	if err := Alias(name, name+"2"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Remove(name + "2") })
	same, err := Open(name + "2")
	if err != nil {
		t.Fatal(err)
	}
	one, err := ns.Inode()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := same.Inode(); err != nil || other != one {
		t.Errorf("by its other name the namespace is %d, want %d: %v", other, one, err)
	}
	if err := errors.Join(same.Close(), Remove(name+"2")); err != nil {
		t.Fatal(err)
	}
	names, err := List(name)
	if err != nil || !slices.Equal(names, []string{name}) {
		t.Fatalf("list: %v, %v", names, err)
	}
	for range 2 {
		if err := Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := List(name); len(names) != 0 {
		t.Fatalf("left after remove: %v", names)
	}
}
