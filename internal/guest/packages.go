package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shellPackage has the log-in shell. The static busybox's shell prefers its own
// applets to programs found by PATH, which hides the real ping and mke2fs; this
// one does not. Both packages have /bin/busybox, so this one is unpacked into
// shellTree, below the tree of the others.
const (
	shellPackage = "busybox"
	shellTree    = "shell"
)

// tinyPackages are unpacked for the tiny guest, with the libraries and the
// kernel that they depend on.
var tinyPackages = []string{
	"linux-image-cloud-amd64", "busybox-static", shellPackage, "dropbear-bin", "openssh-sftp-server", "sudo", "curl", "jq",
	"ca-certificates", "ncat", "netcat-openbsd", "util-linux", "e2fsprogs", "iputils-ping", "libpam-modules",
	"grub-pc-bin", "grub-common",
}

// unpacked makes sure of the packages' unpacked tree and returns its path.
func (b *builder) unpacked(ctx context.Context, roots []string) (string, error) {
	names, err := b.closure(ctx, roots)
	if err != nil {
		return "", err
	}
	debs, err := b.download(ctx, names)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(debs, "\n")))
	tree := filepath.Join(b.WorkDir, "unpacked-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	b.say("unpacking %d packages", len(debs))
	old, _ := filepath.Glob(filepath.Join(b.WorkDir, "unpacked-*"))
	tmp := filepath.Join(b.tmp, "unpacked")
	for _, deb := range debs {
		dir := tmp
		if strings.HasPrefix(filepath.Base(deb), shellPackage+"_") {
			dir = filepath.Join(tmp, shellTree)
		}
		if _, err := run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
			return "", fmt.Errorf("unpacking %s: %w", filepath.Base(deb), err)
		}
	}
	for _, dir := range old {
		os.RemoveAll(dir)
	}
	return tree, os.Rename(tmp, tree)
}

// closure follows the dependencies of roots, but only to libraries and to the
// kernel behind its meta-package: nothing here runs maintainer scripts.
func (b *builder) closure(ctx context.Context, roots []string) ([]string, error) {
	args := append(b.aptOptions(), "depends", "--recurse", "--no-recommends", "--no-suggests",
		"--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances")
	out, err := run(ctx, "", "apt-cache", append(args, roots...)...)
	if err != nil {
		b.say("reading package lists")
		if _, uerr := run(ctx, "", "apt-get", append(b.aptOptions(), "-q", "update")...); uerr != nil {
			return nil, fmt.Errorf("updating package lists: %w", uerr)
		}
		if out, err = run(ctx, "", "apt-cache", append(args, roots...)...); err != nil {
			return nil, fmt.Errorf("finding packages: %w", err)
		}
	}
	return follow(parseDepends(out), roots), nil
}

// aptOptions lets apt work on the host's lists, or on lists of our own when
// the host has none, without ever changing the host's.
func (b *builder) aptOptions() []string {
	opts := []string{"-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"}
	if lists, _ := filepath.Glob("/var/lib/apt/lists/*_Packages*"); len(lists) > 0 {
		return opts
	}
	state := filepath.Join(b.WorkDir, "apt")
	os.MkdirAll(filepath.Join(state, "lists/partial"), 0o755)
	return append(opts, "-o", "Dir::State::Lists="+filepath.Join(state, "lists"), "-o", "Dir::Cache="+state)
}

// parseDepends reads apt-cache depends --recurse: a line per package, then
// indented its dependencies; of alternatives ("|") the first is kept.
func parseDepends(out []byte) map[string][]string {
	deps := map[string][]string{}
	cur, skip := "", false
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		line := sc.Text()
		if !strings.HasPrefix(line, " ") {
			cur, skip = strings.TrimSpace(line), false
			deps[cur] = nil
			continue
		}
		kind, name, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(name, "<") {
			continue
		}
		if !skip {
			deps[cur] = append(deps[cur], name)
		}
		skip = strings.HasPrefix(kind, "|")
	}
	return deps
}

func follow(deps map[string][]string, roots []string) []string {
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, d := range deps[name] {
			if isLibrary(d) || strings.HasPrefix(d, "linux-image-") {
				visit(d)
			}
		}
	}
	for _, r := range roots {
		visit(r)
	}
	names := make([]string, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func isLibrary(name string) bool {
	return name == "zlib1g" || strings.HasPrefix(name, "lib") && !strings.HasPrefix(name, "libperl")
}

// download fetches what is not in the cache and returns the paths of all.
func (b *builder) download(ctx context.Context, names []string) ([]string, error) {
	dir := filepath.Join(b.WorkDir, "packages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	apt := func(dir string, args ...string) ([]byte, error) {
		return run(ctx, dir, "apt-get", append(b.aptOptions(), append([]string{"-q", "download"}, args...)...)...)
	}
	// In a directory that has the files already apt prints nothing of them.
	out, err := apt(b.tmp, append([]string{"--print-uris"}, names...)...)
	if err != nil {
		return nil, fmt.Errorf("finding packages: %w", err)
	}
	var debs, missing []string
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		f := strings.Fields(sc.Text()) // 'uri' file size hash
		if len(f) < 3 || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		deb := filepath.Join(dir, f[1])
		debs = append(debs, deb)
		if st, err := os.Stat(deb); err != nil || fmt.Sprint(st.Size()) != f[2] {
			name, _, _ := strings.Cut(f[1], "_")
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		b.say("downloading %d packages", len(missing))
		if _, err := apt(dir, missing...); err != nil {
			return nil, fmt.Errorf("downloading packages: %w", err)
		}
	}
	slices.Sort(debs)
	return debs, nil
}
