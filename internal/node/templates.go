package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/keyed"
)

const (
	// maxTemplates bounds how many a node keeps; the least recently used goes first.
	maxTemplates = 8
	// idleTemplate is how long the memory of a template that nothing is cloned from is kept.
	idleTemplate = 10 * time.Minute
	// retryTemplate is when an image that could not be frozen is tried again.
	retryTemplate = time.Hour
)

// Names of a template's files, beside those of the hypervisor. The note is
// written last, and its time is that of the last use.
const (
	templateDisk = "disk"
	templateNote = "template.json"
)

// recipe is what is kept of a template's making.
type recipe struct {
	Images    []string `json:"images"` // that are in it
	MemoryMiB int      `json:"memory_mib"`
}

// templates are the frozen first boots of this node, one directory each. A
// template appears under its key only when it is complete, and losing one loses nothing.
type templates struct {
	dir    string
	budget int // MiB of guest memory that open templates may hold
	locks  keyed.Mutex

	mu     sync.Mutex
	open   map[string]*template
	making map[string]bool      // machines that become templates
	queued map[string]bool      // keys that are to be made
	failed map[string]time.Time // keys that could not be made, and when
	queue  chan func(context.Context)
}

// template is one whose memory is loaded.
type template struct {
	key string
	recipe
	base  blockdev.Base
	from  hypervisor.Frozen
	users int
	used  time.Time
	shut  bool // to be closed when the last user is done
}

// newTemplates opens a directory of templates; without one there are none.
func newTemplates(dir string, budget int) (*templates, error) {
	t := &templates{dir: dir, budget: budget, open: map[string]*template{}, making: map[string]bool{}, queued: map[string]bool{},
		failed: map[string]time.Time{}, queue: make(chan func(context.Context), maxTemplates)}
	if dir == "" {
		t.budget = 0
		return t, nil
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	half, err := filepath.Glob(filepath.Join(dir, "*.new")) // a crash left them
	for _, h := range half {
		err = errors.Join(err, os.RemoveAll(h))
	}
	return t, err
}

func (t *templates) path(key string) string { return filepath.Join(t.dir, key) }

// use runs fn with the template of the key; false when there is none.
func (t *templates) use(key string, fn func(*template) error) (bool, error) {
	x, err := t.take(key)
	if x == nil || err != nil {
		return false, err
	}
	defer t.release(x)
	return true, fn(x)
}

// take opens the template unless it is open, and keeps it so until release.
func (t *templates) take(key string) (*template, error) {
	defer t.locks.Lock(key)()
	t.mu.Lock()
	x := t.open[key]
	if x != nil {
		x.users++
		x.used = time.Now()
	}
	t.mu.Unlock()
	if x != nil {
		return x, nil
	}
	x, err := t.load(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening template %s: %w", key, err)
	}
	x.users, x.used = 1, time.Now()
	t.mu.Lock()
	t.makeRoom(x.MemoryMiB)
	t.open[key] = x
	t.mu.Unlock()
	return x, nil
}

func (t *templates) load(key string) (*template, error) {
	dir := t.path(key)
	r, _, err := t.read(key)
	if err != nil {
		return nil, err
	}
	x := &template{key: key, recipe: r}
	if err := os.Chtimes(filepath.Join(dir, templateNote), time.Time{}, time.Now()); err != nil {
		return nil, err
	}
	if x.base, err = blockdev.InspectBase(filepath.Join(dir, templateDisk)); err != nil {
		return nil, err
	}
	if x.from.Devices, err = os.Open(filepath.Join(dir, hypervisor.FrozenDevices)); err != nil {
		return nil, err
	}
	if x.from.Memory, err = hypervisor.SealMemory(filepath.Join(dir, hypervisor.FrozenMemory)); err != nil {
		x.from.Devices.Close()
		return nil, err
	}
	return x, nil
}

// makeRoom closes what was not used for the longest time, until the budget has
// room. Those in use stay, and what they hold is over the budget for a moment.
func (t *templates) makeRoom(need int) {
	var list []*template
	for _, x := range t.open {
		list, need = append(list, x), need+x.MemoryMiB
	}
	slices.SortFunc(list, func(a, b *template) int { return a.used.Compare(b.used) })
	for _, x := range list {
		if need <= t.budget {
			return
		}
		need -= x.MemoryMiB
		t.shut(x)
	}
}

// shut closes the template, now or when its last user is done; mu is held.
func (t *templates) shut(x *template) {
	if t.open[x.key] == x {
		delete(t.open, x.key)
	}
	x.shut = true
	if x.users == 0 {
		x.from.Memory.Close()
		x.from.Devices.Close()
	}
}

func (t *templates) release(x *template) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.users--
	if x.shut {
		t.shut(x)
	}
}

// drop removes a template. What was cloned from it keeps what it uses.
func (t *templates) drop(key string) error {
	defer t.locks.Lock(key)()
	t.mu.Lock()
	if x := t.open[key]; x != nil {
		t.shut(x)
	}
	t.mu.Unlock()
	return os.RemoveAll(t.path(key))
}

// close lets go of all memory.
func (t *templates) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.open {
		t.shut(x)
	}
}

// wants tells whether a template is still to be made, and if so that it will be.
func (t *templates) wants(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.queued[key] || time.Since(t.failed[key]) < retryTemplate {
		return false
	}
	t.queued[key] = true
	return true
}

// made notes how the making ended.
func (t *templates) made(key string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.queued, key)
	delete(t.failed, key)
	if err != nil {
		t.failed[key] = time.Now()
	}
}

// isMaking tells whether the machine is to become a template.
func (t *templates) isMaking(machine string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.making[machine]
}

func (t *templates) setMaking(machine string, on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if on {
		t.making[machine] = true
	} else {
		delete(t.making, machine)
	}
}

// prune removes the templates of images that are gone and those beyond the cap,
// and closes those that were not used for a while.
func (t *templates) prune(gone func(image string) bool) error {
	if t.dir == "" {
		return nil
	}
	t.closeIdle()
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	used := map[string]time.Time{}
	var keep []string
	for _, e := range entries {
		key := e.Name()
		if strings.HasSuffix(key, ".new") {
			continue // being made
		}
		r, when, readErr := t.read(key)
		if readErr != nil || slices.ContainsFunc(r.Images, gone) {
			err = errors.Join(err, t.drop(key))
			continue
		}
		keep, used[key] = append(keep, key), t.lastUse(key, when)
	}
	slices.SortFunc(keep, func(a, b string) int { return used[b].Compare(used[a]) })
	for _, key := range keep[min(len(keep), maxTemplates):] {
		err = errors.Join(err, t.drop(key))
	}
	return err
}

func (t *templates) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.open {
		if x.users == 0 && time.Since(x.used) > idleTemplate {
			t.shut(x)
		}
	}
}

// read gives what a template was made of and when it was last opened.
func (t *templates) read(key string) (r recipe, opened time.Time, err error) {
	path := filepath.Join(t.path(key), templateNote)
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, opened, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return r, opened, err
	}
	err = json.Unmarshal(raw, &r)
	return r, st.ModTime(), err
}

func (t *templates) lastUse(key string, opened time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.open[key]; x != nil && x.used.After(opened) {
		return x.used
	}
	return opened
}

// publish puts the complete directory KEY.new in place, so that a crash of the
// host leaves all of it or nothing.
func (t *templates) publish(key string, r recipe) error {
	tmp := t.path(key) + ".new"
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, templateNote), raw, 0o600); err != nil {
		return err
	}
	for _, name := range []string{hypervisor.FrozenMemory, hypervisor.FrozenDevices, templateDisk, templateNote, ""} {
		if err := syncPath(filepath.Join(tmp, name)); err != nil {
			return err
		}
	}
	defer t.locks.Lock(key)()
	if err := os.RemoveAll(t.path(key)); err != nil {
		return err
	}
	if err := os.Rename(tmp, t.path(key)); err != nil {
		return err
	}
	return syncPath(t.dir)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
