package container

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestUntouched(t *testing.T) {
	upper := t.TempDir()
	overlay := []mount.Mount{{Type: "overlay", Options: []string{"workdir=/w", "upperdir=" + upper, "lowerdir=/a:/b"}}}
	if !untouched(overlay) {
		t.Error("a layer without files is touched")
	}
	if untouched([]mount.Mount{{Type: "bind", Source: upper, Options: []string{"rbind", "rw"}}}) {
		t.Error("a copy of the image cannot be told from a changed one")
	}
	if err := os.Mkdir(filepath.Join(upper, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if untouched(overlay) {
		t.Error("a layer with files is untouched")
	}
}

func TestIdentities(t *testing.T) {
	var i identities
	if _, ok := i.get("a"); ok {
		t.Error("something is known before it was told")
	}
	for n := range rememberedUsers + 1 {
		i.put(fmt.Sprint(n), specs.User{UID: uint32(n)})
	}
	if u, ok := i.get(fmt.Sprint(rememberedUsers)); !ok || u.UID != rememberedUsers || len(i.known) > rememberedUsers {
		t.Errorf("%+v, %v, %d are known", u, ok, len(i.known))
	}
}
