package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// newCloner is a node with an image whose guests can be frozen.
func newCloner(t *testing.T) *hands {
	t.Helper()
	h := newHands(t)
	h.kept, h.says, h.image = filepath.Join(t.TempDir(), "templates"), readyWord, filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(h.image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

// clonable is a new server that may be cloned.
func clonable() nodeapi.Instance {
	return nodeapi.Instance{ID: uuid.NewString(), Gen: 1, Power: nodeapi.PowerRunning, VCPUs: 1, MemoryMiB: 64,
		NICs: []nodeapi.NIC{{PortID: uuid.NewString(), MAC: "fa:16:3e:00:00:01"}}, Machine: nodeapi.Machine{Clone: true},
		Disks: []nodeapi.Disk{{Name: "disk-0", Role: "root", SizeGiB: 1, ImageID: "image", Format: "raw", Boot: 1}}}
}

// boot wants the server and gives how it came to run: "start" or "clone".
func (h *hands) boot(i nodeapi.Instance) string {
	h.t.Helper()
	clones := h.count("clone")
	h.want(i)
	if s := h.await(i.ID, gen(i.Gen)); s.Power != nodeapi.PowerRunning || s.Fault != "" {
		h.t.Fatalf("the server is %+v", s)
	}
	spec, err := h.Spec(i.ID)
	if err != nil || len(spec.NICs) != 1 || spec.NICs[0].ID != i.NICs[0].PortID || len(spec.Disks) != 1 {
		h.t.Errorf("the server has %+v, %v", spec, err)
	}
	if h.count("clone") > clones {
		return "clone"
	}
	return "start"
}

// awaitTemplates waits until the node has n templates and nothing in the making.
func (h *hands) awaitTemplates(n int) []string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	var names []string
	err := wait.Until(ctx, "templates", time.Millisecond, func(context.Context) (bool, error) {
		entries, err := os.ReadDir(h.kept)
		names = nil
		for _, e := range entries {
			names = append(names, e.Name())
		}
		machines, e := h.List()
		if err == nil {
			err = e
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(names) == n && len(machines) == len(h.statuses), err
	})
	if err != nil {
		h.t.Fatalf("%v; there are %v", err, names)
	}
	return names
}

func TestSecondServerIsACloneOfTheFirst(t *testing.T) {
	h := newCloner(t)
	stop := h.run()
	if how := h.boot(clonable()); how != "start" {
		t.Errorf("the first server: %s", how)
	}
	h.awaitTemplates(1)
	if h.count("freeze") != 1 {
		t.Errorf("%d machines were frozen", h.count("freeze"))
	}
	one := clonable()
	if how := h.boot(one); how != "clone" {
		t.Errorf("the second server: %s", how)
	}
	// What was cloned is stopped and started as any other, on its own disk.
	one.Gen, one.Power = 2, nodeapi.PowerStopped
	h.want(one)
	h.await(one.ID, gen(2))
	if one.Gen, one.Power = 3, nodeapi.PowerRunning; h.boot(one) != "start" {
		t.Error("a server that ran is cloned again")
	}
	// A rebuilt server has a new disk.
	one.Gen, one.Power = 4, nodeapi.PowerStopped
	h.want(one)
	h.await(one.ID, gen(4))
	one.Gen, one.Power, one.Disks = 5, nodeapi.PowerRunning, []nodeapi.Disk{one.Disks[0]}
	if one.Disks[0].Name = "disk-1"; h.boot(one) != "clone" {
		t.Error("a rebuilt server boots")
	}
	stop()
	// The next agent finds the template, and removes what a crash left of another.
	if err := os.MkdirAll(filepath.Join(h.kept, "half.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	stop = h.run()
	if how := h.boot(clonable()); how != "clone" {
		t.Errorf("after a restart: %s", how)
	}
	h.awaitTemplates(1)
	stop()
}

func TestTemplateThatDoesNotWorkIsMadeAnew(t *testing.T) {
	h := newCloner(t)
	defer h.run()()
	h.boot(clonable())
	before := h.awaitTemplates(1)
	h.mu.Lock()
	h.broken = true
	h.mu.Unlock()
	if how := h.boot(clonable()); how != "start" {
		t.Errorf("from a broken template: %s", how)
	}
	h.awaitTemplates(0)
	h.mu.Lock()
	h.broken = false
	h.mu.Unlock()
	if how := h.boot(clonable()); how != "start" {
		t.Errorf("without a template: %s", how)
	}
	if after := h.awaitTemplates(1); after[0] != before[0] {
		t.Errorf("the same shape has the keys %s and %s", before[0], after[0])
	}
	if how := h.boot(clonable()); how != "clone" {
		t.Errorf("from the new template: %s", how)
	}
}

func TestTemplatesGoWithTheirImage(t *testing.T) {
	h := newCloner(t)
	defer h.run()()
	h.boot(clonable())
	h.awaitTemplates(1)
	h.mu.Lock()
	h.image = ""
	h.mu.Unlock()
	h.wanted <- InstanceEvent{Synced: true}
	h.awaitTemplates(0)
}

func TestImageThatNeverSaysTheWordIsLeftAlone(t *testing.T) {
	h := newCloner(t)
	h.says = "login:"
	a, err := New(Options{ID: "n", Control: h, Machines: h, Plane: h, CacheDir: t.TempDir(), TemplateDir: h.kept})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	inst := clonable()
	if !a.templates.wants("key") {
		t.Fatal("a template is not wanted")
	}
	err = a.makeTemplate(ctx, &inst, "key")
	if err == nil {
		t.Fatal("a guest that said nothing was frozen")
	}
	a.templates.made("key", err)
	if a.templates.wants("key") {
		t.Error("it is tried again at once")
	}
	if left, _ := h.List(); len(left) > 0 {
		t.Errorf("machines are left: %v", left)
	}
	if left, _ := os.ReadDir(h.kept); len(left) > 0 {
		t.Errorf("templates are left: %v", left)
	}
}

func TestWhatCannotBeCloned(t *testing.T) {
	if i := clonable(); !cloneable(&i, 64) {
		t.Fatal("the plainest server cannot be cloned")
	}
	for what, change := range map[string]func(*nodeapi.Instance){
		"not asked for":    func(i *nodeapi.Instance) { i.Machine.Clone = false },
		"UEFI":             func(i *nodeapi.Instance) { i.Machine.Firmware = "uefi" },
		"pc":               func(i *nodeapi.Instance) { i.Machine.Type = "pc" },
		"config drive":     func(i *nodeapi.Instance) { i.Guest.ConfigDrive = true },
		"no network":       func(i *nodeapi.Instance) { i.NICs = nil },
		"two networks":     func(i *nodeapi.Instance) { i.NICs = append(i.NICs, i.NICs[0]) },
		"emulated card":    func(i *nodeapi.Instance) { i.NICs[0].Model = "e1000" },
		"volume":           func(i *nodeapi.Instance) { i.Disks[0].Role = roleVolume },
		"second disk":      func(i *nodeapi.Instance) { i.Disks = append(i.Disks, nodeapi.Disk{Name: "swap"}) },
		"ISO":              func(i *nodeapi.Instance) { i.Disks[0].Format = "iso" },
		"copy of a disk":   func(i *nodeapi.Instance) { i.Disks[0].CopyFrom = "disk-9" },
		"SCSI disk":        func(i *nodeapi.Instance) { i.Disks[0].Bus = "scsi" },
		"too much memory":  func(i *nodeapi.Instance) { i.MemoryMiB = 65 },
		"disk of no image": func(i *nodeapi.Instance) { i.Disks[0].ImageID = "" },
	} {
		i := clonable()
		change(&i)
		if cloneable(&i, 64) {
			t.Errorf("%s: can be cloned", what)
		}
	}
}

func TestLeastUsedTemplatesMakeRoom(t *testing.T) {
	ts, err := newTemplates(t.TempDir(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxTemplates + 2 {
		dir := filepath.Join(ts.dir, string(rune('a'+i)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"memory.ram": "m", "devices.img": "d", templateDisk: string(make([]byte, 512)), templateNote: `{"memory_mib":40}`} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		when := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(filepath.Join(dir, templateNote), when, when); err != nil {
			t.Fatal(err)
		}
	}
	use := func(key string, fn func(*template) error) {
		t.Helper()
		if ok, err := ts.use(key, fn); !ok || err != nil {
			t.Fatalf("template %s: %v, %v", key, ok, err)
		}
	}
	// In use: its files stay readable although it is closed and removed meanwhile.
	use("a", func(x *template) error {
		for _, key := range []string{"b", "c", "d"} {
			use(key, func(*template) error { return nil })
		}
		if err := ts.drop("a"); err != nil {
			t.Fatal(err)
		}
		if _, err := x.from.Memory.Stat(); err != nil {
			t.Errorf("the memory of a template in use: %v", err)
		}
		return nil
	})
	if len(ts.open) > 2 {
		t.Errorf("%d templates of 40 MiB are open, with room for 100 MiB", len(ts.open))
	}
	if err := ts.prune(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(ts.dir)
	if err != nil || len(left) != maxTemplates {
		t.Errorf("%d templates are left, %v", len(left), err)
	}
	for _, e := range left {
		if e.Name() == "e" {
			t.Error("the least recently used one is still there")
		}
	}
	ts.close()
}
