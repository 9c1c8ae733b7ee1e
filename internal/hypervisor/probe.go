package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/process"
)

// Accel is how guests' instructions run.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm" // by the processor
	TCG Accel = "tcg" // by QEMU's translator
)

// ProbeFile is where Probe remembers its result.
const ProbeFile = "accelerator.json"

// probeArgument makes the program run the probe instead of itself.
const probeArgument = "__probe-kvm"

const (
	// probeLimit is how long the probe's guest may take to leave.
	probeLimit = 3 * time.Second
	// probeSlow is a hundred times what hardware needs for the probe's guest.
	// Hosts that emulate each instruction were seen to need 32 to 290 ms.
	probeSlow = 5 * time.Millisecond
	// probeRuns are made, of which the fastest counts: a busy host may take the
	// processor away in one.
	probeRuns = 3
)

// ProbeMain runs the probe and exits when the program was started for it by
// Probe. Every program whose code calls Probe calls this first thing in main.
func ProbeMain() {
	if len(os.Args) != 2 || os.Args[1] != probeArgument {
		return
	}
	best := time.Duration(0)
	for range probeRuns {
		took, err := runProbeGuest()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if best == 0 || took < best {
			best = took
		}
	}
	fmt.Println(best.Nanoseconds())
	os.Exit(0)
}

// probeResult is remembered for as long as the kernel runs.
type probeResult struct {
	Release string `json:"release"`
	BootID  string `json:"boot_id"`
	Accel   Accel  `json:"accel"`
	Reason  string `json:"reason"`
}

// Probe tells how guests run fastest on this host, and why, in words for the
// operator. /dev/kvm is not proof: nested hosts without hardware support offer
// it, start guests, and hang every kernel. So a guest is run that loops in long
// mode, in a child process, since it may never return. The result is kept in dir.
func Probe(ctx context.Context, dir string) (Accel, string) {
	key := probeResult{Release: kernelRelease(), BootID: process.BootID()}
	path := filepath.Join(dir, ProbeFile)
	if data, err := os.ReadFile(path); err == nil {
		var old probeResult
		if json.Unmarshal(data, &old) == nil && old.Release == key.Release && old.BootID == key.BootID {
			return old.Accel, old.Reason
		}
	}
	key.Accel, key.Reason = probe(ctx)
	if ctx.Err() == nil {
		data, _ := json.Marshal(key)        // strings only: cannot fail
		_ = os.WriteFile(path, data, 0o644) // forgetting costs one probe more
	}
	return key.Accel, key.Reason
}

func probe(ctx context.Context) (Accel, string) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return TCG, "there is no /dev/kvm: software emulation"
	}
	self, err := os.Executable()
	if err != nil {
		return TCG, "cannot run the acceleration probe: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, self, probeArgument).Output()
	text := strings.TrimSpace(string(out))
	if ctx.Err() != nil {
		return TCG, fmt.Sprintf("a guest on /dev/kvm did not come back within %v: software emulation", probeLimit)
	}
	if err != nil {
		return TCG, "/dev/kvm does not work: " + text
	}
	var ns int64
	if _, err := fmt.Sscan(text, &ns); err != nil {
		return TCG, "the acceleration probe said " + text
	}
	took := time.Duration(ns)
	if took > probeSlow {
		return TCG, fmt.Sprintf("/dev/kvm emulates each instruction (%v for a loop that hardware does in under 1ms): software emulation", took.Round(time.Millisecond))
	}
	return KVM, fmt.Sprintf("hardware virtualisation works (probe took %v)", took)
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

var errProbeExit = errors.New("the probe's guest left for an unexpected reason")
