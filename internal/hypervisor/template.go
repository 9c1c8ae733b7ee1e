package hypervisor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// What Freeze leaves in the directory of a template: its memory, and the state
// of its processors and devices.
const (
	FrozenMemory  = "memory.ram"
	FrozenDevices = "devices.img"
)

// TemplateSKU is the product SKU by which the guest of a template knows that it
// is one, and has to wait before it takes on an identity.
const TemplateSKU = "strata-template"

// Frozen is a template that clones start from.
type Frozen struct {
	Memory  *os.File // as SealMemory gives it
	Devices *os.File
}

// ramName is the guest's memory in QEMU's migration stream; the same for a machine
// whose memory is a file of ours and for one whose memory QEMU makes itself.
const ramName = "pc.ram"

// memoryFrom makes the guest's memory a mapping of a file.
func (b *argBuilder) memoryFrom(kib int, path string, shared bool) {
	b.addJSON("-object", map[string]any{"qom-type": "memory-backend-file", "id": ramName, "x-use-canonical-path-for-ramblock-id": false,
		"size": int64(kib) << 10, "mem-path": path, "share": shared})
	b.add("-machine", "memory-backend="+ramName)
}

// Shape implements Driver: machines of one shape differ in their identity alone.
// The program is part of it, by its file, and the processor when it is the host's own.
func (d *QEMU) Shape(s Spec) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	s.ID, s.Template, s.Clone, s.Ports = "", true, false, 0
	s.assignPorts()
	h := sha256.New()
	for _, a := range commandLine(&s, d.Accel, 0, nil) {
		fmt.Fprintf(h, "%q\n", a)
	}
	program, err := exec.LookPath(d.Program)
	if err != nil {
		return "", fmt.Errorf("QEMU is missing: install the package qemu-system-x86: %w", err)
	}
	st, err := os.Stat(program)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, program, st.Size(), st.ModTime().UnixNano())
	if d.Accel == KVM {
		cpu, err := hostProcessor()
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, cpu)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// hostProcessor is what the host tells of its first processor.
func hostProcessor() (string, error) {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		key, _, ok := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "stepping", "microcode", "flags":
			out = append(out, line)
		}
		if !ok && len(out) > 0 {
			break
		}
	}
	return strings.Join(out, ""), nil
}

// Freeze implements Driver.
func (d *QEMU) Freeze(ctx context.Context, id string) error {
	return d.locked(ctx, id, "freezing", func(m *machine) error {
		st, err := m.readState()
		if err != nil {
			return err
		}
		if !m.running() {
			return errNotRunning(id)
		}
		if !st.Spec.Template {
			return errs.Conflictf("machine %s was not started as a template", id)
		}
		// The memory is in its file already.
		return errors.Join(m.saveMemory(ctx, FrozenDevices, true), m.kill(context.WithoutCancel(ctx)))
	})
}

// Clone implements Driver. It fails before the guest has run, or not at all:
// the same disks may be started from without it.
func (d *QEMU) Clone(ctx context.Context, s Spec, from Frozen) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if len(s.NICs) > 0 {
		return errs.Invalidf("a clone gets its network cards when it runs")
	}
	m, err := d.begin(ctx, s.ID)
	if err != nil {
		return err
	}
	defer m.unlock()
	if err := m.stays(); err != nil {
		return err
	}
	if m.running() {
		return nil
	}
	s.Template, s.Clone = false, true
	if err := m.launch(ctx, m.afresh(s), nil, &origin{memory: from.Memory, state: from.Devices}); err != nil {
		return fmt.Errorf("cloning machine %s: %w", s.ID, err)
	}
	if err := m.thaw(ctx, from.Devices); err != nil {
		return errors.Join(fmt.Errorf("cloning machine %s: %w", s.ID, err), m.kill(context.WithoutCancel(ctx)))
	}
	m.changeState(func(s *machineState) { s.Cloning = false })
	return nil
}

// thaw reads the state of a template's devices and lets the guest go on.
func (m *machine) thaw(ctx context.Context, devices *os.File) error {
	if err := m.ignoreShared(ctx, true); err != nil {
		return err
	}
	// QEMU reads from where the file stands, and clones may start at the same time.
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", devices.Fd()))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := m.commandFD(ctx, "getfd", map[string]string{"fdname": "devices"}, nil, f); err != nil {
		return err
	}
	if err := m.command(ctx, "migrate-incoming", map[string]string{"uri": "fd:devices"}, nil); err != nil {
		return err
	}
	return m.loaded(ctx)
}

// ignoreShared has QEMU leave memory that is a shared mapping out of what it saves
// and loads, or not.
func (m *machine) ignoreShared(ctx context.Context, on bool) error {
	return m.command(ctx, "migrate-set-capabilities", map[string]any{"capabilities": []any{
		map[string]any{"capability": "x-ignore-shared", "state": on}}}, nil)
}

// SealMemory reads the memory of a template into memory that nobody, whatever
// his rights, can write to any more. QEMU wants a descriptor that it may write
// to even for a private mapping, and no tenant's QEMU may write to what the
// others' guests run from.
func SealMemory(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("strata-template", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("making memory for a template: %w", err)
	}
	out := os.NewFile(uintptr(fd), "template "+filepath.Base(path))
	err = out.Truncate(st.Size())
	if err == nil {
		err = copyData(out, in)
	}
	if err == nil {
		_, err = unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("reading the memory of a template: %w", err)
	}
	return out, nil
}

// copyData copies what is not a hole.
func copyData(out, in *os.File) error {
	for at := int64(0); ; {
		start, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
		at = end
	}
}
