package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

var versionRE = regexp.MustCompile(`version (\d+(?:\.\d+)+)`)

// Describe tells what this machine, a node of that name and address, has and is.
// Disk is the size of the file system that holds dir.
func Describe(ctx context.Context, name, addr, accel, dir string) (nodeapi.NodeInfo, error) {
	var sys unix.Sysinfo_t
	if err := unix.Sysinfo(&sys); err != nil {
		return nodeapi.NodeInfo{}, fmt.Errorf("reading the machine's memory: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nodeapi.NodeInfo{}, fmt.Errorf("reading the size of %s: %w", dir, err)
	}
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return nodeapi.NodeInfo{}, fmt.Errorf("asking QEMU for its version: %w", err)
	}
	n := nodeapi.NodeInfo{ID: name, Host: name, Addr: addr, VCPUs: runtime.NumCPU(), MemoryMiB: int(sys.Totalram * uint64(sys.Unit) >> 20),
		DiskGiB: int(fs.Blocks * uint64(fs.Bsize) >> 30), Accelerator: accel, Hypervisor: "QEMU", CPUArch: "x86_64",
		BootedAt: time.Now().Add(-time.Duration(sys.Uptime) * time.Second).UTC().Truncate(time.Second), SeenAt: time.Now().UTC()}
	if m := versionRE.FindSubmatch(out); m != nil {
		n.Version = string(m[1])
	}
	n.CPUModel, n.CPUFlags = cpuInfo()
	return n, nil
}

func cpuInfo() (model string, flags []string) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", nil
	}
	for line := range strings.Lines(string(raw)) {
		key, val, _ := strings.Cut(line, ":")
		switch val = strings.TrimSpace(val); strings.TrimSpace(key) {
		case "model name":
			model = val
		case "flags":
			return model, strings.Fields(val)
		}
	}
	return model, nil
}

// Traits are what the scheduler may ask for (os-traits' names).
func Traits(n nodeapi.NodeInfo) []string {
	out := []string{"COMPUTE_NODE"}
	names := map[string]string{"sse": "SSE", "sse2": "SSE2", "ssse3": "SSSE3", "sse4_1": "SSE41", "sse4_2": "SSE42", "avx": "AVX", "avx2": "AVX2",
		"aes": "AESNI", "bmi1": "BMI", "bmi2": "BMI2", "fma": "FMA3", "vmx": "VMX", "svm": "SVM"}
	for _, f := range n.CPUFlags {
		if t, ok := names[f]; ok {
			out = append(out, "HW_CPU_X86_"+t)
		}
	}
	return out
}

// QEMUVersionNumber is upstream's integer form of a version: 7.2.15 is 7002015.
func QEMUVersionNumber(v string) int {
	n := 0
	parts := strings.Split(v+".0.0", ".")
	for _, p := range parts[:3] {
		x, err := strconv.Atoi(p)
		if err != nil {
			return 0
		}
		n = n*1000 + x
	}
	return n
}
