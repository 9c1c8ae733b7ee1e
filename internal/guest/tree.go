package guest

import (
	"context"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed all:files
var files embed.FS

// libDir is where the guest's shared libraries go.
const libDir = "lib/x86_64-linux-gnu"

// tinyPrograms are the programs taken from packages, by their place in the
// guest. Everything else is busybox.
var tinyPrograms = []string{
	"usr/bin/curl", "usr/bin/jq", "usr/bin/sudo", "usr/bin/ncat", "usr/bin/lsblk", "usr/bin/ping",
	"usr/bin/dbclient", "usr/bin/dropbearkey", "usr/sbin/dropbear", "usr/lib/openssh/sftp-server",
	"bin/nc.openbsd", "sbin/blkid", "sbin/mke2fs", "sbin/resize2fs", "sbin/e2fsck",
}

// dlopened are loaded by name at run time, so that no ELF header names them.
var dlopened = []string{
	"usr/libexec/sudo/sudoers.so", "usr/libexec/sudo/libsudo_util.so.0", "usr/lib/sudo/sudoers.so", "usr/lib/sudo/libsudo_util.so.0",
	"lib/x86_64-linux-gnu/security/pam_permit.so", "usr/lib/x86_64-linux-gnu/security/pam_permit.so",
}

// tinyLinks are further names of programs.
var tinyLinks = map[string]string{
	"usr/bin/ping6": "ping", "sbin/mkfs.ext2": "mke2fs", "sbin/mkfs.ext3": "mke2fs", "sbin/mkfs.ext4": "mke2fs",
	"usr/bin/ssh": "dbclient", "usr/lib/sftp-server": "openssh/sftp-server", "bin/nc": "../usr/bin/nc", "etc/resolv.conf": "../run/resolv.conf", "var/run": "../run",
	"dev/fd": "/proc/self/fd", "etc/mtab": "../proc/mounts",
}

// makeRoot assembles the root filesystem of a small guest at root from the
// unpacked packages.
func makeRoot(ctx context.Context, r *smallRecipe, tree, root, release string, mods moduleSet) error {
	for _, d := range []string{"bin", "sbin", "dev", "proc", "sys", "run", "tmp", "mnt", "root", "var/log", "var/lib/strata", "home/strata", "etc/dropbear", "boot/grub", libDir, "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := installBusybox(ctx, tree, root); err != nil {
		return err
	}
	if err := installPrograms(r, tree, root); err != nil {
		return err
	}
	for name, target := range tinyLinks {
		os.Remove(filepath.Join(root, name))
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			return err
		}
	}
	if err := exposeAdminPrograms(root); err != nil {
		return err
	}
	for _, dir := range r.files {
		if err := installOwnFiles(dir, root); err != nil {
			return err
		}
	}
	for from, to := range r.extra {
		if err := copyFile(from, filepath.Join(root, to), 0o755); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(root, "usr/lib/strata/reseed"), reseedProgram(), 0o755); err != nil {
		return err
	}
	if err := installCertificates(tree, root); err != nil {
		return err
	}
	set, err := mods.closure(append(slices.Clone(bootModules), r.modules...))
	if err != nil {
		return err
	}
	if err := installModules(root, release, set); err != nil {
		return err
	}
	return setOwners(root)
}

// installBusybox makes a link for each of busybox's applets, where busybox wants it.
func installBusybox(ctx context.Context, tree, root string) error {
	src, err := lookIn(tree, "bin/busybox")
	if err != nil {
		return err
	}
	if err := copyFile(src, filepath.Join(root, "bin/busybox"), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, src, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("asking busybox for its applets: %w", err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("/bin/busybox", path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return installShell(tree, root)
}

// installShell puts the shell that respects PATH in place of the static one's.
func installShell(tree, root string) error {
	shell, err := lookIn(filepath.Join(tree, shellTree), "bin/busybox")
	if err != nil {
		return err
	}
	if err := copyFile(shell, filepath.Join(root, "bin/busybox-sh"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"bin/sh", "bin/ash"} {
		os.Remove(filepath.Join(root, name))
		if err := os.Symlink("busybox-sh", filepath.Join(root, name)); err != nil {
			return err
		}
	}
	return nil
}

// exposeAdminPrograms links what is in the sbin directories into the bin ones: a
// command over SSH runs with dropbear's PATH, which has only those.
func exposeAdminPrograms(root string) error {
	for _, dir := range []string{"", "usr"} {
		entries, err := os.ReadDir(filepath.Join(root, dir, "sbin"))
		if err != nil {
			return err
		}
		for _, e := range entries {
			link := filepath.Join(root, dir, "bin", e.Name())
			if err := os.Symlink("../sbin/"+e.Name(), link); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

// installPrograms copies the programs, what they load, and every shared library behind them.
func installPrograms(r *smallRecipe, tree, root string) error {
	need := map[string]bool{}
	if err := addLibraries(tree, filepath.Join(root, "bin/busybox-sh"), need); err != nil {
		return err
	}
	for i, name := range slices.Concat(r.programs, dlopened) {
		src, err := lookIn(tree, name)
		if err != nil {
			if i >= len(r.programs) {
				continue // libraries move between releases; one of the places has it
			}
			return err
		}
		dst := filepath.Join(root, name)
		os.Remove(dst)
		if err := copyFile(src, dst, 0o755); err != nil {
			return err
		}
		if err := addLibraries(tree, src, need); err != nil {
			return err
		}
	}
	for lib := range need {
		src, err := lookLibrary(tree, lib)
		if err != nil {
			return err
		}
		dst := filepath.Join(root, libDir, lib)
		if strings.HasPrefix(lib, "ld-linux") {
			dst = filepath.Join(root, "lib64", lib)
		}
		if err := copyFile(src, dst, 0o755); err != nil {
			return err
		}
	}
	conf, err := lookIn(tree, "etc/mke2fs.conf")
	if err != nil {
		return err
	}
	return copyFile(conf, filepath.Join(root, "etc/mke2fs.conf"), 0o644)
}

// addLibraries adds the names of the shared libraries that the program needs, all the way down.
func addLibraries(tree, path string, need map[string]bool) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, lib := range libs {
		if need[lib] || strings.HasPrefix(lib, "libsudo_util") {
			continue
		}
		need[lib] = true
		src, err := lookLibrary(tree, lib)
		if err != nil {
			return fmt.Errorf("%s needs it: %w", filepath.Base(path), err)
		}
		if err := addLibraries(tree, src, need); err != nil {
			return err
		}
	}
	if !need["ld-linux-x86-64.so.2"] && len(libs) > 0 {
		need["ld-linux-x86-64.so.2"] = true
	}
	return nil
}

func lookLibrary(tree, lib string) (string, error) {
	for _, dir := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"} {
		if p, err := filepath.EvalSymlinks(filepath.Join(tree, dir, lib)); err == nil && strings.HasPrefix(p, tree) {
			return p, nil
		}
	}
	return "", fmt.Errorf("library %s is in none of the unpacked packages", lib)
}

// lookIn finds a file of the guest in the unpacked packages, which may or may not have /usr merged.
func lookIn(tree, name string) (string, error) {
	for _, n := range []string{name, "usr/" + name, strings.TrimPrefix(name, "usr/")} {
		p := filepath.Join(tree, n)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is in none of the unpacked packages", name)
}

// installOwnFiles copies our own files; those that start with #! become programs.
func installOwnFiles(dir, root string) error {
	return fs.WalkDir(files, dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		switch {
		case strings.HasPrefix(string(data), "#!"):
			mode = 0o755
		case strings.HasSuffix(path, "/shadow"):
			mode = 0o600
		case strings.HasSuffix(path, "/sudoers"):
			mode = 0o440
		}
		name := strings.TrimPrefix(path, dir+"/")
		os.Remove(filepath.Join(root, name))
		data = []byte(strings.ReplaceAll(string(data), "@CMDLINE@", KernelArgs))
		return writeFile(filepath.Join(root, name), data, mode)
	})
}

// installCertificates joins the authorities that Debian trusts into the one file that curl reads.
func installCertificates(tree, root string) error {
	certs, err := filepath.Glob(filepath.Join(tree, "usr/share/ca-certificates/mozilla/*.crt"))
	if err != nil || len(certs) == 0 {
		return fmt.Errorf("no certificates in the unpacked packages: %w", err)
	}
	var all []byte
	for _, c := range certs {
		data, err := os.ReadFile(c)
		if err != nil {
			return err
		}
		all = append(all, data...)
	}
	return writeFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"), all, 0o644)
}

// setOwners gives everything to root but the user's home, and sets the special modes.
func setOwners(root string) error {
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 0, 0)
	})
	if err != nil {
		return err
	}
	if err := os.Chown(filepath.Join(root, "home/strata"), 1000, 1000); err != nil {
		return err
	}
	for name, mode := range map[string]fs.FileMode{
		"usr/bin/sudo": 0o755 | fs.ModeSetuid, "tmp": 0o777 | fs.ModeSticky, "root": 0o700, "home/strata": 0o750,
	} {
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// writeFile writes a file with exactly this mode, and the directories above it.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
