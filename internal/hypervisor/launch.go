package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/cgroup"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/process"
	"github.com/strata-cloud/strata/internal/wait"
)

// startTimeout is how long a new QEMU may take to answer on its monitor, on a
// host under heavy load.
const startTimeout = 20 * time.Second

// uefiFiles are the firmware's code, and its variables as they come.
type uefiFiles struct{ code, vars string }

func findUEFI() (*uefiFiles, error) {
	for _, f := range []uefiFiles{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	} {
		if _, err := os.Stat(f.code); err == nil {
			return &f, nil
		}
	}
	return nil, errs.Invalidf("firmware uefi needs the package ovmf on this host")
}

// origin is where a machine goes on instead of booting: its saved state and,
// unless that has it too, its memory; or with neither, what another host sends.
type origin struct{ state, memory *os.File }

// launch starts the process and returns when its monitor answers. With from
// set, the machine goes on from there instead of booting.
func (m *machine) launch(ctx context.Context, s Spec, taps []*os.File, from *origin) (err error) {
	uefi, err := m.prepare(&s)
	if err != nil {
		return err
	}
	s.assignPorts()
	remove, err := m.writeSecrets(s.Disks...)
	if err != nil {
		return err
	}
	defer remove()
	const firstFD = 3
	args := commandLine(&s, m.d.Accel, firstFD, uefi)
	files := taps
	if from != nil {
		more, file := from.args(memoryKiB(&s, m.d.Accel), firstFD+len(taps))
		args = append(args, more...)
		if file != nil {
			files = append(taps[:len(taps):len(taps)], file)
		}
	}
	cmd, err := m.spawn(args, files, qemuLogFile)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			m.abandon(context.WithoutCancel(ctx), cmd)
		}
	}()
	p, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		return err
	}
	if m.d.Cgroups != nil {
		if err := m.d.Cgroups.Add(m.id, p.PID); err != nil {
			return err
		}
	}
	st := machineState{Spec: s, Process: p, Suspended: from != nil && from.state != nil && from.memory == nil, Cloning: from != nil && from.memory != nil}
	if err := m.writeState(st); err != nil {
		return fmt.Errorf("writing the machine's state: %w", err)
	}
	if err := m.watch(p, cmd); err != nil {
		return err
	}
	if err := m.waitMonitor(ctx); err != nil {
		return err
	}
	return m.limitAll(ctx, &s)
}

// args are the options that make QEMU go on from there, and the file that it
// gets as descriptor fd.
func (o *origin) args(kib, fd int) ([]string, *os.File) {
	if o.state == nil {
		return []string{"-S", "-incoming", "defer"}, nil
	}
	if o.memory == nil {
		return []string{"-S", "-incoming", "fd:" + strconv.Itoa(fd)}, o.state
	}
	b := &argBuilder{}
	b.memoryFrom(kib, "/proc/self/fd/"+strconv.Itoa(fd), false)
	b.add("-S", "-incoming", "defer") // what is left out of the state is to be said first
	return b.args, o.memory
}

// prepare makes the machine's directory ready for QEMU's user.
func (m *machine) prepare(s *Spec) (*uefiFiles, error) {
	for _, name := range []string{monitorSocket, serialSocket, vncSocket} {
		os.Remove(filepath.Join(m.dir, name))
	}
	var uefi *uefiFiles
	if s.Firmware == "uefi" {
		var err error
		if uefi, err = findUEFI(); err != nil {
			return nil, err
		}
		if err := copyOnce(uefi.vars, filepath.Join(m.dir, varsFile)); err != nil {
			return nil, fmt.Errorf("copying the firmware's variables: %w", err)
		}
	}
	if err := m.own(s); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(m.dir, consoleFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Chown(m.d.UID, m.d.GID); err != nil {
		return nil, err
	}
	if m.d.Cgroups == nil {
		return uefi, nil
	}
	return uefi, m.d.Cgroups.Ensure(m.id, limits(s, m.d.Accel))
}

// own gives QEMU the machine's files. A file that is linked from elsewhere is
// shared, such as the image that disks are based on: it stays as it is.
func (m *machine) own(s *Spec) error {
	names := []string{varsFile, s.Kernel, s.Initrd}
	for _, d := range s.Disks {
		if d.File != "" {
			names = append(names, d.File)
		}
	}
	for _, name := range names {
		path := filepath.Join(m.dir, name)
		var st unix.Stat_t
		switch err := unix.Lstat(path, &st); {
		case name == "":
			continue
		case name == varsFile && err == unix.ENOENT:
			continue
		case err != nil:
			return fmt.Errorf("file %s of the machine: %w", name, err)
		case st.Nlink > 1:
			continue
		}
		if err := os.Lchown(path, m.d.UID, m.d.GID); err != nil {
			return fmt.Errorf("giving QEMU its files: %w", err)
		}
	}
	return nil
}

// limits leave QEMU itself room beside the guest's memory: its code and heap,
// page tables, and under emulation the translations and their bookkeeping.
func limits(s *Spec, accel Accel) cgroup.Limits {
	headroom := int64(160 + s.MemoryMiB/32)
	if accel == TCG {
		headroom += 128 + 4*int64(tcgCacheMiB(s))
	}
	if s.Clone {
		// The first clone to touch a page that the template never used is charged
		// for it twice: for the page of the template and for its own.
		headroom += int64(s.MemoryMiB)
	}
	shares := 1024 * s.VCPUs
	if s.Template { // no server waits for it
		shares = 512
	}
	return cgroup.Limits{
		MemoryBytes: (int64(s.MemoryMiB) + headroom) << 20,
		CPUShares:   shares,
		Pids:        256 + 2*s.VCPUs, // QEMU's I/O pool has 64 threads
	}
}

// spawn starts QEMU through setpriv: our own process changes the directory
// while it may still enter it, setpriv then drops every privilege and becomes QEMU.
func (m *machine) spawn(args []string, files []*os.File, logFile string) (*exec.Cmd, error) {
	qemu, err := exec.LookPath(m.d.Program)
	if err != nil {
		return nil, fmt.Errorf("QEMU is missing: install the package qemu-system-x86: %w", err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return nil, fmt.Errorf("setpriv is missing: install the package util-linux: %w", err)
	}
	groups := "--clear-groups"
	if len(m.d.Groups) > 0 {
		var list []string
		for _, g := range m.d.Groups {
			list = append(list, strconv.Itoa(g))
		}
		groups = "--groups=" + strings.Join(list, ",")
	}
	priv := []string{"--reuid=" + strconv.Itoa(m.d.UID), "--regid=" + strconv.Itoa(m.d.GID), groups,
		"--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--", qemu}
	log, err := os.OpenFile(filepath.Join(m.dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(setpriv, append(priv, args...)...)
	cmd.Dir = m.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running QEMU: %w", err)
	}
	return cmd, nil
}

// waitMonitor waits for QEMU's socket and connects.
func (m *machine) waitMonitor(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	m.mu.Lock()
	exited := m.exited
	m.mu.Unlock()
	var last error
	err := wait.Until(ctx, "QEMU's monitor", 5*time.Millisecond, func(ctx context.Context) (bool, error) {
		select {
		case <-exited:
			return false, fmt.Errorf("QEMU did not start%s", lastLog(filepath.Join(m.dir, qemuLogFile)))
		default:
		}
		if exited == nil {
			return false, fmt.Errorf("QEMU did not start%s", lastLog(filepath.Join(m.dir, qemuLogFile)))
		}
		last = m.connect(ctx)
		return last == nil, nil
	})
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, last)
	}
	return err
}

// abandon ends a process whose start failed, and takes back what it left.
func (m *machine) abandon(ctx context.Context, cmd *exec.Cmd) {
	m.mu.Lock()
	m.expected = true
	exited := m.exited
	m.mu.Unlock()
	cmd.Process.Kill()
	if exited != nil {
		<-exited
	} else if cmd.ProcessState == nil {
		cmd.Wait()
	}
	m.changeState(func(s *machineState) { s.Process, s.Crashed = process.ID{}, "" })
	if err := m.d.removeCgroup(ctx, m.id); err != nil {
		m.d.Log.Warn("removing a cgroup", "server", m.id, "err", err)
	}
}

// copyOnce copies a file unless the target exists.
func copyOnce(from, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		out.Close()
		return err
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
