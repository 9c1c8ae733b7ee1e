package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// bootModules are loaded by the initial ramdisk (some only when the hardware
// is there); extraModules are in the root filesystem for the kernel to load on
// demand. Names as the kernel's, with underscores.
var (
	bootModules = []string{
		"virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "button", "evdev",
		"virtio_scsi", "sd_mod", "sr_mod", "ata_piix", "e1000", "e1000e",
	}
	extraModules = []string{
		"isofs", "fat", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8", "overlay", "squashfs",
		"loop", "tun", "8021q", "bridge", "veth", "virtio_balloon", "virtio_console",
	}
)

// module is one kernel module of the unpacked tree.
type module struct {
	name    string
	path    string // on the host
	rel     string // below lib/modules/RELEASE, without compression suffix
	depends []string
	aliases []string
}

// moduleSet finds modules by name.
type moduleSet map[string]*module

// kernelRelease is the release whose modules are in the tree.
func kernelRelease(tree string) (string, error) {
	found, err := filepath.Glob(filepath.Join(tree, "lib/modules/*/kernel"))
	if err == nil && len(found) == 0 {
		found, err = filepath.Glob(filepath.Join(tree, "usr/lib/modules/*/kernel"))
	}
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("expected one kernel in the unpacked packages, found %d", len(found))
	}
	return filepath.Base(filepath.Dir(found[0])), nil
}

// readModules lists every module file of the release; metadata is read only when asked for.
func readModules(tree, release string) (moduleSet, error) {
	set := moduleSet{}
	for _, top := range []string{"lib/modules", "usr/lib/modules"} {
		base := filepath.Join(tree, top, release)
		if _, err := os.Stat(base); err != nil {
			continue
		}
		err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, rest, ok := strings.Cut(d.Name(), ".ko")
			if !ok || rest != "" && rest != ".xz" {
				return nil
			}
			rel, err := filepath.Rel(base, strings.TrimSuffix(path, ".xz"))
			name = strings.ReplaceAll(name, "-", "_")
			set[name] = &module{name: name, path: path, rel: rel}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return set, nil
}

// closure returns the modules and all they depend on. A name that this kernel
// does not have as a module is left out: it is built in or not made for it.
func (s moduleSet) closure(names []string) ([]*module, error) {
	seen := map[string]*module{}
	var visit func(string) error
	visit = func(name string) error {
		m := s[name]
		if m == nil || seen[name] != nil {
			return nil
		}
		seen[name] = m
		if err := m.readInfo(); err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, d := range m.depends {
			if err := visit(d); err != nil {
				return err
			}
		}
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	out := make([]*module, 0, len(seen))
	for _, m := range seen {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *module) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

func (m *module) read() ([]byte, error) {
	data, err := os.ReadFile(m.path)
	if err != nil || !strings.HasSuffix(m.path, ".xz") {
		return data, err
	}
	r, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// readInfo reads the .modinfo section: NUL-separated key=value.
func (m *module) readInfo() error {
	data, err := m.read()
	if err != nil {
		return err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return fmt.Errorf("no .modinfo section")
	}
	info, err := sec.Data()
	if err != nil {
		return err
	}
	m.depends, m.aliases = nil, nil
	for kv := range strings.SplitSeq(string(info), "\x00") {
		key, val, _ := strings.Cut(kv, "=")
		switch {
		case key == "depends" && val != "":
			for d := range strings.SplitSeq(val, ",") {
				m.depends = append(m.depends, strings.ReplaceAll(d, "-", "_"))
			}
		case key == "alias":
			m.aliases = append(m.aliases, val)
		}
	}
	return nil
}

// installModules copies the modules under root with the indexes that modprobe reads.
func installModules(root, release string, mods []*module) error {
	base := filepath.Join(root, "lib/modules", release)
	byName := map[string]*module{}
	for _, m := range mods {
		byName[m.name] = m
	}
	var dep, alias strings.Builder
	for _, m := range mods {
		data, err := m.read()
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(base, m.rel), data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&dep, "%s:", m.rel)
		for _, d := range allDepends(m, byName) {
			fmt.Fprintf(&dep, " %s", d.rel)
		}
		dep.WriteString("\n")
		for _, a := range m.aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, m.name)
		}
	}
	if err := writeFile(filepath.Join(base, "modules.dep"), []byte(dep.String()), 0o644); err != nil {
		return err
	}
	return writeFile(filepath.Join(base, "modules.alias"), []byte(alias.String()), 0o644)
}

// allDepends lists what m needs, nearest first: modprobe loads them from the end.
func allDepends(m *module, byName map[string]*module) []*module {
	var out []*module
	var visit func(*module)
	visit = func(m *module) {
		for _, name := range m.depends {
			d := byName[name]
			if d == nil {
				continue
			}
			if i := slices.Index(out, d); i >= 0 {
				out = slices.Delete(out, i, i+1)
			}
			out = append(out, d)
			visit(d)
		}
	}
	visit(m)
	return out
}
