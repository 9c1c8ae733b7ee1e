package netns

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

// TestOwned has a namespace belong to a user namespace with the ids that were asked for,
// for as long as it is there.
func TestOwned(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%d-owned", os.Getpid())
	t.Cleanup(func() { Remove(name) })
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 231072, Size: 65536}}
	ns, made, err := EnsureOwned(name, Owner{UIDs: ids, GIDs: ids})
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	defer ns.Close()
	owner, err := UserNamespace(Dir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	mine, err := UserNamespace("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if a, b := inode(t, owner), inode(t, mine); a == b {
		t.Error("it belongs to our own user namespace")
	}
	again, made, err := EnsureOwned(name, Owner{})
	if err != nil || made {
		t.Fatalf("the second time: made %v, %v", made, err)
	}
	again.Close()
	within := name + "-within"
	t.Cleanup(func() { Remove(within) })
	second, made, err := EnsureOwned(within, Owner{Within: owner})
	if err != nil || !made {
		t.Fatalf("one of the same owner: made %v, %v", made, err)
	}
	second.Close()
	same, err := UserNamespace(Dir + "/" + within)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	if a, b := inode(t, owner), inode(t, same); a != b {
		t.Errorf("it belongs to the user namespace %d, not to %d", b, a)
	}
	if err := ns.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Error("setting what the host may set in it:", err)
	}
	left, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline"); bytes.HasPrefix(cmd, []byte("strata-space\x00")) {
			t.Errorf("process %s is left", e.Name())
		}
	}
}

// TestOwnedByNone has no name stay of a namespace that cannot be made.
func TestOwnedByNone(t *testing.T) {
	needs.Root(t, "this test")
	name := fmt.Sprintf("t%d-none", os.Getpid())
	t.Cleanup(func() { Remove(name) })
	no, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	defer no.Close()
	if _, _, err := EnsureOwned(name, Owner{Within: no}); err == nil || !strings.Contains(err.Error(), "nsenter: ") {
		t.Errorf("what is no user namespace: %v", err)
	}
	if _, err := os.Lstat(Dir + "/" + name); !os.IsNotExist(err) {
		t.Errorf("its name stayed: %v", err)
	}
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
