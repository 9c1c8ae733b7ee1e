package system

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/test/cloud"
)

// generations is a build whose first stage leaves 350 MB in the cache alone.
const generations = `FROM busybox AS heavy
RUN dd if=/dev/zero of=/large bs=1048576 count=350 && echo small > /small
FROM busybox
COPY --from=heavy /small /small
COPY generation /generation
`

// TestContainersMakeSpace fills an engine's disk: what can be made again goes, first of
// the cache, then of images, and nothing that is somebody's.
func TestContainersMakeSpace(t *testing.T) {
	const size = 3000 // MiB: on a smaller disk BuildKit keeps no cache
	c := cloud.Plan(t)
	onDisk(t, c, size)
	d := dockOn(t, c)
	var ids []string
	for _, generation := range []string{"first", "second", "third"} {
		d.mustBuild(false, "-t", "shipped", files(t, map[string]string{"Dockerfile": generations, "generation": generation}))
		ids = append(ids, d.must("images", "-q", "--no-trunc", "shipped"))
		if generation == "first" {
			d.must("run", "-v", "kept:/data", "--name", "ended", "shipped", "sh", "-c", "echo mine > /data/file; echo mine > /file")
		}
	}
	has := func(id string) bool { return strings.Contains(d.must("images", "-a", "-q", "--no-trunc"), id) }
	filler, percent := filepath.Join(filepath.Dir(c.Dir), "filler"), int64(size<<20/100)
	for i, relieved := range []func() bool{
		func() bool { return free(t, c.Dir) > 15*percent },
		func() bool { return !has(ids[1]) },
	} {
		if !has(ids[1]) {
			t.Errorf("before time %d there is no second generation", i)
		}
		fill(t, filler, free(t, c.Dir)-5*percent)
		await(t, "the engine to make space", relieved)
	}
	if !has(ids[0]) || !has(ids[2]) {
		t.Errorf("of %v there are %s", ids, d.must("images", "-a", "-q", "--no-trunc"))
	}
	if out := d.must("cp", "ended:/file", "-"); !strings.Contains(out, "mine") {
		t.Errorf("the container's file: %q", out)
	}
	if out := d.must("run", "--rm", "-v", "kept:/data", "shipped", "cat", "/data/file", "/generation"); out != "mine\nthird" {
		t.Errorf("the volume has %q", out)
	}
}
