package integrity

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/needs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// defaults of the environment's STRATA_INTEGRITY (sequences) and STRATA_INTEGRITY_SEED.
const (
	sequences = 12
	steps     = 14
	firstSize = 4 << 20
	maxSize   = 32 << 20
)

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestNoFlushedByteIsLost(t *testing.T) {
	needs.Root(t, "QEMU's programs run as another user")
	n, first := fromEnvironment(t, "STRATA_INTEGRITY", sequences), fromEnvironment(t, "STRATA_INTEGRITY_SEED", 1)
	total := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		w := &world{ctx: t.Context(), rng: rand.New(rand.NewPCG(uint64(seed), 7)), dir: filepath.Join(t.TempDir(), strconv.Itoa(seed)), count: total}
		if err := w.sequence(); err != nil {
			t.Fatalf("sequence %d: %v\n%s", seed, err, strings.Join(w.log, "\n"))
		}
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%6d %s", total[k], k)
	}
	if total["killed agent"] == 0 || total["killed writer"] == 0 {
		t.Error("nothing was ever killed")
	}
}

// world is one sequence: a volume, its snapshots, its backups and its clones.
type world struct {
	ctx       context.Context
	rng       *rand.Rand
	dir       string
	log       []string
	count     map[string]int
	ref       nodeapi.VolumeRef
	now       *model
	snapshots map[string]*model
	backups   map[string]*model
	clones    map[string]*model
	names     int
	open      writer // nil: nobody has the volume open
	parent    string // of the next backup
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) name(kind string) string {
	w.names++
	return fmt.Sprintf("%s-%d", kind, w.names)
}

func (w *world) sequence() (err error) {
	if err := os.Mkdir(w.dir, 0o711); err != nil {
		return err
	}
	w.ref = nodeapi.VolumeRef{ID: "main"}
	w.now, w.snapshots, w.backups, w.clones = newModel(firstSize), map[string]*model{}, map[string]*model{}, map[string]*model{}
	defer func() {
		if w.open != nil {
			w.open.kill()
		}
	}()
	if err := w.do(task{Op: "create", Volume: w.ref, Size: firstSize}); err != nil {
		return err
	}
	moves := []func() error{w.write, w.write, w.write, w.flush, w.reopen, w.kill, w.snapshot, w.snapshot, w.dropSnapshot, w.clone, w.extend, w.revert, w.backup, w.restore, w.dropBackup}
	for range steps {
		if err := moves[w.rng.IntN(len(moves))](); err != nil {
			return err
		}
	}
	return w.checkAll()
}

// do has the agent do something, which is sometimes killed first, until it is done.
func (w *world) do(t task) error {
	t.Dir = w.dir
	if w.open != nil && t.Volume.ID == w.ref.ID {
		w.open.describe(&t)
	}
	w.note("%s %s %s %d", t.Op, t.Volume.ID, t.Name, t.Size)
	w.count[t.Op]++
	for w.rng.IntN(10) < 4 {
		// A process takes some ms to begin; operations take from 5 to 50.
		after := time.Duration(w.rng.IntN(60_000)) * time.Microsecond
		killed, err := t.killed(w.ctx, after)
		w.note("  agent killed after %s: %v (%v)", after, killed, err)
		if killed {
			w.count["killed agent"]++
		}
	}
	// A program that a killed agent began may still hold the volume.
	var last error
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	err := wait.Until(ctx, t.Op, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		last = t.run(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %w", t.Op, err, last)
	}
	return nil
}

func (w *world) write() error {
	if w.open == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	for range 1 + w.rng.IntN(4) {
		from := w.rng.IntN(len(w.now.last))
		n := 1 + w.rng.IntN(min(24, len(w.now.last)-from))
		pattern := byte(1 + w.rng.IntN(255))
		w.note("write %d blocks of %d at %d", n, pattern, from)
		w.count["write"]++
		w.now.write(from, n, pattern)
		if err := w.open.write(w.ctx, int64(from)*blockSize, n*blockSize, pattern); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	if w.rng.IntN(2) == 0 {
		return w.flush()
	}
	return nil
}

func (w *world) flush() error {
	if w.open == nil {
		return nil
	}
	w.note("flush")
	w.count["flush"]++
	if err := w.open.flush(w.ctx); err != nil {
		return fmt.Errorf("flushing: %w", err)
	}
	w.now.flush()
	return nil
}

// begin opens the volume in one of the two ways.
func (w *world) begin() (err error) {
	start, what := startGuest, "QEMU"
	if w.rng.IntN(2) == 0 {
		start, what = startExport, "storage daemon"
	}
	w.note("open with a %s", what)
	w.count["open with "+what]++
	// A program that a killed agent began may still hold the volume.
	var last error
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	err = wait.Until(ctx, what, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		var got writer
		if got, last = start(w.ctx, &task{Dir: w.dir}, w.ref); last == nil {
			w.open = got
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}

func (w *world) end() error {
	if w.open == nil {
		return nil
	}
	w.note("close")
	err := w.open.close(w.ctx)
	w.open = nil
	w.now.flush()
	return err
}

func (w *world) reopen() error {
	if w.open == nil {
		return w.begin()
	}
	if err := w.end(); err != nil {
		return err
	}
	return w.check(w.ref, "", w.now, false)
}

// kill ends the writer without mercy, also in the middle of a write.
func (w *world) kill() error {
	if w.open == nil {
		return nil
	}
	w.note("kill the writer")
	w.count["killed writer"]++
	done := make(chan struct{})
	close(done)
	if w.rng.IntN(2) == 0 {
		from := w.rng.IntN(len(w.now.last))
		n := 1 + w.rng.IntN(len(w.now.last)-from)
		w.now.write(from, n, 77)
		done = make(chan struct{})
		go func(open writer) {
			defer close(done)
			_ = open.write(w.ctx, int64(from)*blockSize, n*blockSize, 77) // it fails or not
		}(w.open)
		w.note("while it writes %d at %d", n, from)
	}
	err := w.open.kill()
	<-done
	w.open = nil
	if err != nil {
		return err
	}
	return w.check(w.ref, "", w.now, true)
}

func (w *world) snapshot() error {
	name := w.name("s")
	if err := w.do(task{Op: "snapshot", Volume: w.ref, Name: name}); err != nil {
		return err
	}
	w.snapshots[name] = w.now.clone()
	return nil
}

// pick takes one of the names, or "".
func pick[T any](w *world, m map[string]T) string {
	if len(m) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(m))[w.rng.IntN(len(m))]
}

func (w *world) dropSnapshot() error {
	name := pick(w, w.snapshots)
	if name == "" {
		return nil
	}
	delete(w.snapshots, name)
	return w.do(task{Op: "delete snapshot", Volume: w.ref, Name: name})
}

func (w *world) clone() error {
	name := pick(w, w.snapshots)
	if name == "" {
		return nil
	}
	v := nodeapi.VolumeRef{ID: w.name("clone")}
	m := w.snapshots[name].clone()
	if err := w.do(task{Op: "create", Volume: v, Size: m.size(), From: &w.ref, Name: name}); err != nil {
		return err
	}
	w.clones[v.ID] = m
	return nil
}

func (w *world) extend() error {
	size := w.now.size() + int64(1+w.rng.IntN(4))<<20
	if size > maxSize {
		return nil
	}
	if err := w.do(task{Op: "extend", Volume: w.ref, Size: size}); err != nil {
		return err
	}
	w.now.extend(size)
	if w.open == nil {
		return nil
	}
	return w.open.resized(w.ctx)
}

func (w *world) revert() error {
	name := pick(w, w.snapshots)
	if name == "" {
		return nil
	}
	for _, s := range w.snapshots {
		if s.size() > w.snapshots[name].size() {
			return nil
		}
	}
	if err := w.end(); err != nil {
		return err
	}
	if err := w.do(task{Op: "revert", Volume: w.ref, Name: name}); err != nil {
		return err
	}
	w.now = w.snapshots[name].clone()
	return nil
}

func (w *world) backup() error {
	name := w.name("b")
	if err := w.do(task{Op: "snapshot", Volume: w.ref, Name: name}); err != nil {
		return err
	}
	m := w.now.clone()
	if err := w.do(task{Op: "backup", Volume: w.ref, Name: name, Parent: w.parent}); err != nil {
		return err
	}
	w.backups[name], w.parent = m, name
	return w.do(task{Op: "delete snapshot", Volume: w.ref, Name: name})
}

func (w *world) restore() error {
	name := pick(w, w.backups)
	if name == "" {
		return nil
	}
	if err := w.end(); err != nil {
		return err
	}
	if w.backups[name].size() > w.now.size() {
		return nil
	}
	if err := w.do(task{Op: "restore", Volume: w.ref, Name: name}); err != nil {
		return err
	}
	size := w.now.size()
	w.now = w.backups[name].clone()
	w.now.extend(size)
	return nil
}

func (w *world) dropBackup() error {
	name := pick(w, w.backups)
	if name == "" {
		return nil
	}
	delete(w.backups, name)
	if w.parent == name {
		w.parent = ""
	}
	return w.do(task{Op: "delete backup", Name: name})
}

// check compares a volume that nobody has open, or a snapshot.
func (w *world) check(v nodeapi.VolumeRef, snapshot string, m *model, crashed bool) error {
	var dev volumes.Device
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	var last error
	err := wait.Until(ctx, "a program to let go", 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		d, _, _, err := (&task{Dir: w.dir}).parts(ctx)
		if err != nil {
			return false, err
		}
		dev, last = d.Open(w.ctx, v, snapshot)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("opening volume %s %s: %w: %w", v.ID, snapshot, err, last)
	}
	defer dev.Close()
	if err := m.check(dev, crashed); err != nil {
		return fmt.Errorf("volume %s %s: %w", v.ID, snapshot, err)
	}
	return nil
}

// checkAll looks at everything there is.
func (w *world) checkAll() error {
	if err := w.end(); err != nil {
		return err
	}
	if err := w.check(w.ref, "", w.now, false); err != nil {
		return err
	}
	for name, m := range w.snapshots {
		if err := w.check(w.ref, name, m, false); err != nil {
			return err
		}
	}
	for id, m := range w.clones {
		if err := w.check(nodeapi.VolumeRef{ID: id}, "", m, false); err != nil {
			return err
		}
	}
	for name, m := range w.backups {
		v := nodeapi.VolumeRef{ID: "from-" + name}
		if err := w.do(task{Op: "create", Volume: v, Size: m.size()}); err != nil {
			return err
		}
		if err := w.do(task{Op: "restore", Volume: v, Name: name}); err != nil {
			return err
		}
		if err := w.check(v, "", m, false); err != nil {
			return fmt.Errorf("backup: %w", err)
		}
	}
	return w.consistent()
}

// harmless is what a kill may leave in the file: clusters that nothing uses, and ones
// that will be copied although nobody shares them.
var harmless = regexp.MustCompile(`^(Leaked cluster .*|ERROR OFLAG_COPIED .* refcount=1|)$`)

// consistent has QEMU look at the volume's file.
func (w *world) consistent() error {
	out, err := exec.CommandContext(w.ctx, "qemu-img", "check", filepath.Join(w.dir, "volumes", w.ref.ID, "vol-"+w.ref.ID)).CombinedOutput()
	if err == nil {
		return nil
	}
	findings, _, _ := strings.Cut(string(out), "\n\n")
	for line := range strings.Lines(findings) {
		if !harmless.MatchString(strings.TrimSpace(line)) {
			return fmt.Errorf("qemu-img check: %w: %s", err, out)
		}
	}
	w.count["clusters to give back"]++
	return nil
}
