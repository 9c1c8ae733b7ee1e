package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/guest"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/store"
)

// What a machine should have at least.
const (
	minMemory  = 1 << 30
	minDisk    = 2 << 30
	goodDisk   = 10 << 30
	slowFsync  = 10 * time.Millisecond // of the mean, as etcd wants it
	fsyncTries = 20
)

// programs that a cloud runs, with the Debian packages that have them.
var programs = [...][2]string{{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-img", "qemu-utils"}, {"nft", "nftables"}, {"mke2fs", "e2fsprogs"},
	{"mkswap", "util-linux"}, {"ssh", "openssh-client"}}

// machine checks this machine.
func (f *findings) machine(ctx context.Context, a *app) {
	root := os.Geteuid() == 0
	f.note("root", root, bad, "uid "+fmt.Sprint(os.Geteuid()), "run this as root: sudo strata doctor")
	f.programs()
	f.kernel(ctx, root)
	f.acceleration(ctx, a)
	f.resources(a)
	f.clock()
}

func (f *findings) programs() {
	var missing, packages []string
	need := programs[:]
	for _, r := range guest.Requirements(guest.KindTiny) {
		need = append(need[:len(need):len(need)], [2]string{r.Program, r.Package})
	}
	seen := map[string]bool{}
	for _, p := range need {
		if !hasProgram(p[0]) && !seen[p[0]] {
			seen[p[0]] = true
			missing, packages = append(missing, p[0]), append(packages, p[1])
		}
	}
	if len(missing) == 0 {
		f.note("programs", true, bad, "all that a cloud runs are installed", "")
		return
	}
	f.note("programs", false, bad, "missing: "+strings.Join(missing, ", "), "apt-get install "+strings.Join(packages, " "))
}

// hasProgram looks also where the PATH of a user may not.
func hasProgram(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func (f *findings) acceleration(ctx context.Context, a *app) {
	dir := a.dataDir
	if _, err := os.Stat(dir); err != nil {
		if dir, err = os.MkdirTemp("", "strata-doctor-"); err != nil {
			f.note("acceleration", false, warn, err.Error(), "make room in the directory for temporary files")
			return
		}
		defer os.RemoveAll(dir)
	}
	accel, why := hypervisor.Probe(ctx, dir)
	f.note("acceleration", accel == hypervisor.KVM, warn, acceleration(string(accel), why),
		"enable hardware virtualisation in the firmware (or nested virtualisation in the host) and load kvm_intel or kvm_amd; without it everything works, slowly")
}

func (f *findings) resources(a *app) {
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err == nil {
		total := int64(sys.Totalram) * int64(sys.Unit)
		f.note("memory", total >= minMemory, warn, bytesText(total), "give the machine at least "+bytesText(minMemory))
	}
	dir := existing(a.dataDir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		f.note("disk", false, bad, err.Error(), "choose another --data-dir")
	} else {
		free := int64(fs.Bavail) * fs.Bsize
		verdict := warn
		if free < minDisk {
			verdict = bad
		}
		f.note("disk", free >= goodDisk, verdict, bytesText(free)+" free in "+dir, "free some space, or choose a --data-dir on a larger disk")
	}
	if mean, slowest, err := store.FsyncProbe(dir, fsyncTries); err != nil {
		f.note("disk latency", false, bad, err.Error(), "make "+dir+" writable")
	} else {
		f.note("disk latency", mean < slowFsync, warn, fmt.Sprintf("a durable write in %s takes %s, at most %s", dir, mean.Round(10*time.Microsecond), slowest.Round(10*time.Microsecond)),
			"put the data directory on a faster disk: every change in the cloud waits for such a write")
	}
}

// existing is the directory or its nearest parent that is there.
func existing(dir string) string {
	for {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// clock asks the kernel whether anything keeps the clock true: tokens and
// certificates live by it.
func (f *findings) clock() {
	now := time.Now()
	if now.Year() < 2025 {
		f.note("clock", false, bad, now.Format(time.RFC3339), "set the clock: tokens and certificates depend on it")
		return
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		f.note("clock", true, warn, now.Format(time.RFC3339), "")
		return
	}
	const timeError = 5 // TIME_ERROR of adjtimex(2): not synchronised
	f.note("clock", state != timeError, warn, now.Format(time.RFC3339)+map[bool]string{true: ", not synchronised", false: ", synchronised"}[state == timeError],
		"run a time service such as systemd-timesyncd or chrony; on one machine alone it matters little")
}

// address tells whether the cloud's address is free.
func (f *findings) address(listen string) {
	l, err := net.Listen("tcp", listen)
	if err == nil {
		err = l.Close()
	}
	seen := listen + " is free"
	if errors.Is(err, unix.EADDRINUSE) {
		seen = listen + " is in use by another program"
	} else if err != nil {
		seen = err.Error()
	}
	f.note("address", err == nil, bad, seen, "stop the program that has it (ss -ltnp), or start the cloud with another --listen")
}
