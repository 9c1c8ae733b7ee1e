package fsmount

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
)

// known are the file systems that are mounted for containers: those that are checked first.
// What is on a volume is a project's, and the kernel that reads it is the machine's.
var known = []string{"ext4", "ext3", "ext2"}

// xfs is mounted for whom the machine works for, which asks for it.
const xfs = "xfs"

// mount mounts the file system on the volume, and makes one on a volume that is blank.
func (m *Manager) mount(ctx context.Context, dir string, now source) error {
	blank, err := isBlank(filepath.Join(dir, diskFile))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, formatMark)); err == nil { // it was cut off
		blank = true
	}
	loop, err := attachLoop(filepath.Join(dir, diskFile), now.ReadOnly, unix.LO_FLAGS_AUTOCLEAR)
	if err != nil {
		return err
	}
	defer loop.Close() // the mount keeps the device
	kind, err := prepare(ctx, dir, loop.Name(), blank, now)
	if err != nil {
		return err
	}
	at := m.place(dir)
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	if err := mount.Mount(loop.Name(), at, kind, now.options(kind)); err != nil {
		return fmt.Errorf("mounting the volume's %s: %w", kind, err)
	}
	if blank {
		return empty(dir, at)
	}
	return nil
}

// options are those that a file system of the kind is mounted with.
func (s *source) options(kind string) string {
	out := slices.Clone(s.Form.Options)
	if !s.Form.Trusted {
		out = append(out, "nosuid", "nodev")
	}
	switch {
	case s.ReadOnly && (kind == "ext4" || kind == "ext3"): // others may have it open: its journal is not ours to replay
		out = append(out, "ro", "noload")
	case s.ReadOnly && kind == xfs:
		out = append(out, "ro", "norecovery", "nouuid")
	case s.ReadOnly:
		out = append(out, "ro")
	case kind == xfs: // a clone has its source's
		out = append(out, "nouuid")
	default:
		out = append(out, "errors=remount-ro")
	}
	return strings.Join(out, ",")
}

// empty ends the making of a file system: programs want an empty directory.
func empty(dir, at string) error {
	return errors.Join(ignoreMissing(os.Remove(filepath.Join(at, "lost+found"))), ignoreMissing(os.Remove(filepath.Join(dir, formatMark))))
}

// prepare gives the kind of the file system, which is checked, or made.
func prepare(ctx context.Context, dir, device string, blank bool, now source) (string, error) {
	if blank && now.ReadOnly {
		return "", errs.Conflictf("it is blank, and read-only: there is no file system to mount")
	}
	want := cmp.Or(now.Form.Kind, known[0])
	if blank {
		return want, format(ctx, dir, device, want)
	}
	kind, err := run(ctx, []int{2}, "blkid", "-p", "-s", "TYPE", "-o", "value", device)
	if err != nil {
		return "", err
	}
	switch {
	case kind == "":
		return "", errs.Conflictf("it holds data, and no file system that is known here: it is not formatted. Use a blank volume, or make a file system on it in a server")
	case now.Form.Kind != "" && kind != want:
		return "", errs.Conflictf("it holds %s, and %s was asked for", kind, want)
	case kind == xfs && want == xfs: // which repairs itself when it is mounted
	case !slices.Contains(known, kind):
		return "", errs.Conflictf("it holds %s: volumes with %s are mounted", kind, strings.Join(known, ", "))
	case !now.ReadOnly:
		err = check(ctx, device)
	}
	return kind, err
}

// format makes a file system; empty ends that.
func format(ctx context.Context, dir, device, kind string) error {
	if err := os.WriteFile(filepath.Join(dir, formatMark), nil, 0o600); err != nil {
		return err
	}
	if kind == xfs {
		_, err := run(ctx, nil, "mkfs.xfs", "-q", "-f", device)
		return err
	}
	_, err := run(ctx, nil, "mke2fs", "-q", "-F", "-t", kind, "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", device)
	return err
}

// isBlank tells whether a file is one hole.
func isBlank(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	at, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("looking for data on the volume: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	return at >= size, err
}

// attachLoop makes the file a block device; with LO_FLAGS_AUTOCLEAR for as long as that
// is open or mounted.
func attachLoop(path string, readOnly bool, flags uint32) (*os.File, error) {
	mode, flags := os.O_RDWR, flags|unix.LO_FLAGS_DIRECT_IO
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	file, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "this machine has no loop devices: %w", err)
	}
	defer control.Close()
	for range 100 { // another process may take the same one
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("looking for a loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), mode, 0)
		if err != nil {
			return nil, fmt.Errorf("opening a loop device: %w", err)
		}
		c := unix.LoopConfig{Fd: uint32(file.Fd()), Size: 0, Info: unix.LoopInfo64{Flags: flags}}
		copy(c.Info.File_name[:], "strata")
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), &c); err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("making a loop device: %w", err)
		}
	}
	return nil, errs.New(errs.Unavailable, "no loop device is free")
}

// check repairs an ext file system, and has it fill its volume, which may have grown.
// That is done while it is not mounted: the kernel asks for more rights than we may have.
func check(ctx context.Context, device string) error {
	smaller, err := isSmaller(device)
	if err != nil {
		return err
	}
	opts := []string{"-p", device}
	if smaller {
		opts = []string{"-f", "-p", device}
	}
	if _, err := run(ctx, []int{1}, "e2fsck", opts...); err != nil || !smaller {
		return err
	}
	_, err = run(ctx, nil, "resize2fs", device)
	return err
}

// isSmaller tells whether an ext file system is smaller than its device.
func isSmaller(device string) (bool, error) {
	dev, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer dev.Close()
	size, err := dev.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	sb := make([]byte, 1024)
	if _, err := dev.ReadAt(sb, 1024); err != nil {
		return false, fmt.Errorf("reading the file system's head: %w", err)
	}
	block := int64(1024) << (binary.LittleEndian.Uint32(sb[24:]) & 31)
	blocks := int64(binary.LittleEndian.Uint32(sb[4:]))
	if wide := uint32(0x80); binary.LittleEndian.Uint32(sb[96:])&wide != 0 {
		blocks |= int64(binary.LittleEndian.Uint32(sb[336:])) << 32
	}
	return blocks*block+block <= size, nil
}

// run runs a program; ok are exit codes that are no failure, beside 0.
func run(ctx context.Context, ok []int, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return "", errs.New(errs.Unavailable, "the program %s is missing: install the packages e2fsprogs, util-linux and, for XFS, xfsprogs", name)
		}
	}
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && slices.Contains(ok, exit.ExitCode())) {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(out.String()+complaint.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// mountedAt tells whether something is mounted at a path.
func mountedAt(path string) (bool, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && unescape.Replace(f[4]) == path {
			return true, nil
		}
	}
	return false, nil
}

// unescape reads a path as the kernel writes it there.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
