package guest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/needs"
)

func TestDependenciesFollowLibrariesOnly(t *testing.T) {
	out := `curl
  Depends: libc6
  Depends: libcurl4
 |Depends: first
  Depends: second
libcurl4
  PreDepends: zlib1g
  Depends: <virtual>
    provider
  Depends: perl
zlib1g
  Depends: libc6
libc6
perl
  Depends: libperl5.36
`
	deps := parseDepends([]byte(out))
	if want := []string{"libc6", "libcurl4", "first"}; !slices.Equal(deps["curl"], want) {
		t.Errorf("curl depends on %v, want %v", deps["curl"], want)
	}
	got := follow(deps, []string{"curl"})
	if want := []string{"curl", "libc6", "libcurl4", "zlib1g"}; !slices.Equal(got, want) {
		t.Errorf("closure %v, want %v", got, want)
	}
}

func TestModulesAreLoadedAfterWhatTheyNeed(t *testing.T) {
	mods := map[string]*module{
		"virtio_blk":  {name: "virtio_blk", depends: []string{"virtio_ring", "virtio"}},
		"virtio_net":  {name: "virtio_net", depends: []string{"virtio", "failover"}},
		"virtio":      {name: "virtio", depends: []string{"virtio_ring"}},
		"virtio_ring": {name: "virtio_ring"}, "failover": {name: "failover"},
	}
	for name, m := range mods {
		deps := allDepends(m, mods)
		for i, d := range deps {
			for _, needed := range d.depends {
				if j := slices.Index(deps, mods[needed]); j < i {
					t.Errorf("%s: %s comes at %d, %s that it needs at %d: modprobe loads from the end", name, d.name, i, needed, j)
				}
			}
		}
	}
}

func TestCPIOHasTheTree(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"init": 0o755, "bin/tool": 0o755, "etc/conf": 0o600} {
		if err := writeFile(filepath.Join(dir, name), []byte("content of "+name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("tool", filepath.Join(dir, "bin/link")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := writeCPIO(&buf, dir); err != nil {
		t.Fatal(err)
	}
	got := readCPIO(t, &buf)
	want := map[string]string{
		"bin": "40755 ", "bin/link": "120777 tool", "bin/tool": "100755 content of bin/tool",
		"etc": "40755 ", "etc/conf": "100600 content of etc/conf", "init": "100755 content of init",
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s is %q, want %q", name, got[name], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("archive has %d entries, want %d", len(got), len(want))
	}
}

// readCPIO is an independent reader of the newc format.
func readCPIO(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	field := func(at, i int) int {
		n, err := strconv.ParseInt(string(all[at+6+8*i:at+14+8*i]), 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	out := map[string]string{}
	for at := 0; ; {
		if string(all[at:at+6]) != "070701" {
			t.Fatalf("no magic at %d", at)
		}
		mode, size, namelen := field(at, 1), field(at, 6), field(at, 11)
		name := string(all[at+110 : at+110+namelen-1])
		if name == "TRAILER!!!" {
			return out
		}
		data := (at + 110 + namelen + 3) &^ 3
		out[name] = strconv.FormatInt(int64(mode), 8) + " " + string(all[data:data+size])
		at = (data + size + 3) &^ 3
	}
}

func TestScriptsParse(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		needs.Missing(t, "no shell on this host")
	}
	for _, name := range []string{"initrd-init", "root/etc/init.d/rcS", "root/usr/bin/nc", "root/usr/share/udhcpc/default.script",
		"root/usr/lib/strata/net", "root/usr/lib/strata/personalise", "root/usr/lib/strata/metadata", "root/usr/lib/strata/user-data", "root/usr/lib/strata/disks",
		"root/usr/lib/strata/template"} {
		if out, err := exec.Command(sh, "-n", filepath.Join("files", name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

func TestUnknownKindIsRefused(t *testing.T) {
	dir := t.TempDir()
	err := Build(t.Context(), Options{Kind: "windows", Output: filepath.Join(dir, "x.qcow2"), WorkDir: dir})
	if err == nil || !strings.Contains(err.Error(), "windows") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v behind", left)
	}
}

func TestAddLibrariesNamesWhatIsMissing(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		needs.Missing(t, "no shell on this host")
	}
	err = addLibraries(t.TempDir(), sh, map[string]bool{})
	if err == nil || !strings.Contains(err.Error(), "libc.so") {
		t.Errorf("libraries found in an empty tree: %v", err)
	}
}
