package cloud

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// ShareRoot moves the test, and all programs that it starts, into a mount namespace of
// its own where the root is shared, as it is on a machine with systemd.
func ShareRoot(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test's goroutine
	for _, err := range []error{
		unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), // what it mounts is the test's alone
		unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
