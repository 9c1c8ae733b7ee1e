package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The kinds of image that Build makes.
const (
	KindTiny       = "tiny"
	KindDebian     = "debian"
	KindKubeWorker = "kube-worker"
)

// KernelArgs is the kernel command line of the tiny guest; use it for direct
// kernel boot too. An emulated timer that a busy host serves late must not be taken
// for a broken one (no_timer_check): the kernel panics then.
const KernelArgs = "root=LABEL=strata-root console=tty0 console=ttyS0,115200 quiet loglevel=4 net.ifnames=0 no_timer_check panic=10"

// User is the log-in user of the images.
const User = "strata"

// Options say what to build and where.
type Options struct {
	Kind     string       // KindTiny (default), KindDebian or KindKubeWorker
	Output   string       // path of the qcow2 image; beside it come KernelPath(Output) and InitrdPath(Output)
	WorkDir  string       // cache of packages and the unpacked tree
	Programs string       // of KindKubeWorker: the directory with WorkerPrograms
	Progress func(string) // told of each step; may be nil
}

// KernelPath is where Build puts the kernel of the image at output.
func KernelPath(output string) string { return strings.TrimSuffix(output, ".qcow2") + ".vmlinuz" }

// InitrdPath is where Build puts the initial ramdisk of the image at output.
func InitrdPath(output string) string { return strings.TrimSuffix(output, ".qcow2") + ".initrd" }

// Requirement is a host program and the Debian package that has it.
type Requirement struct {
	Program string
	Package string
}

// Requirements lists what the host must have to build images of the kind.
func Requirements(kind string) []Requirement {
	need := []Requirement{
		{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg-deb", "dpkg"},
		{"mke2fs", "e2fsprogs"}, {"qemu-img", "qemu-utils"},
	}
	if kind == KindDebian {
		need = append(need, Requirement{"mmdebstrap", "mmdebstrap"})
	}
	return need
}

// Check says which requirement is missing.
func Check(kind string) error {
	for _, r := range Requirements(kind) {
		if _, err := lookPath(r.Program); err != nil {
			return fmt.Errorf("building a guest image needs the program %s: install the package %s", r.Program, r.Package)
		}
	}
	return nil
}

// lookPath finds a program also in the administrator's directories, which the
// PATH of a service or of an ordinary user may lack.
func lookPath(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %s not found", name)
}

// Build makes the image. It replaces Output only when everything succeeded.
func Build(ctx context.Context, o Options) error {
	if o.Kind == "" {
		o.Kind = KindTiny
	}
	if !slices.Contains([]string{KindTiny, KindDebian, KindKubeWorker}, o.Kind) {
		return fmt.Errorf("unknown guest kind %q: use %s, %s or %s", o.Kind, KindTiny, KindDebian, KindKubeWorker)
	}
	if err := Check(o.Kind); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("building a guest image needs root: files in it belong to several users")
	}
	b, err := newBuilder(o)
	if err != nil {
		return err
	}
	defer b.close()
	switch o.Kind {
	case KindDebian:
		return b.debian(ctx)
	case KindKubeWorker:
		return b.small(ctx, workerRecipe(o.Programs))
	}
	return b.small(ctx, tinyRecipe())
}

// Revision names what the recipe of this program makes; it changes when the
// recipe or our files in the image change, not when packages do.
func Revision() string {
	return hex.EncodeToString(revision().Sum(nil)[:6])
}

// WorkerRevision is that of KindKubeWorker, with the programs in the directory.
func WorkerRevision(programs string) (string, error) {
	h := revision()
	fmt.Fprintln(h, KindKubeWorker, workerRecipeCount, workerPackages, workerProgramsOf, workerModules)
	for _, name := range WorkerPrograms {
		f, err := os.Open(filepath.Join(programs, name))
		if err != nil {
			return "", fmt.Errorf("%w; make build kube builds it", err)
		}
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

func revision() hash.Hash {
	h := sha256.New()
	fmt.Fprintln(h, recipe, KernelArgs, tinyPackages, tinyPrograms, tinyLinks, bootModules, extraModules)
	fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		fmt.Fprintln(h, path, len(data))
		h.Write(data)
		return err
	})
	return h
}

// recipe counts changes of the code that change the image.
const recipe = 4

// builder is one run of Build.
type builder struct {
	Options
	lock *os.File
	tmp  string // this run's own files, removed at the end
}

func newBuilder(o Options) (*builder, error) {
	work, err := filepath.Abs(o.WorkDir)
	if err != nil {
		return nil, err
	}
	o.WorkDir = work
	for _, dir := range []string{work, filepath.Dir(o.Output)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making the work directory: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(work, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("locking %s: %w", work, err)
	}
	tmp, err := os.MkdirTemp(work, "build-")
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &builder{Options: o, lock: lock, tmp: tmp}, nil
}

func (b *builder) close() {
	os.RemoveAll(b.tmp)
	b.lock.Close()
}

func (b *builder) say(format string, args ...any) {
	if b.Progress != nil {
		b.Progress(fmt.Sprintf(format, args...))
	}
}

// run runs a program of the host and returns its standard output.
func run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	path, err := lookPath(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args[:min(3, len(args))], " "), err, lastLines(stderr.String()))
	}
	return out, nil
}

// lastLines keeps the end of a program's complaint.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}

// publish moves finished files to their places, the image last.
func publish(files [][2]string) error {
	for _, f := range files {
		if err := moveFile(f[0], f[1]); err != nil {
			return fmt.Errorf("writing %s: %w", f[1], err)
		}
	}
	return nil
}

// moveFile renames, or copies and renames when the target is on another filesystem.
func moveFile(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	tmp := to + ".tmp"
	if err := copyFile(from, tmp, 0o644); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, to)
}
