package container

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
)

// TestNotes reads what was kept of containers after an end of the engine, and after one
// of the machine, with which notes are lost or spoilt.
func TestNotes(t *testing.T) {
	d := &Daemon{}
	var err error
	if d.containers, err = openRecords[Record](filepath.Join(t.TempDir(), "records")); err != nil {
		t.Fatal(err)
	}
	if d.notes, err = openRecords[Record](filepath.Join(t.TempDir(), "notes")); err != nil {
		t.Fatal(err)
	}
	d.notes.brief = true
	brief, lasting := newLive(Record{ID: "brief", HostConfig: &container.HostConfig{AutoRemove: true}}), newLive(Record{ID: "lasting", HostConfig: &container.HostConfig{}})
	for _, c := range []*live{brief, lasting} {
		if err := d.change(c, func(r *Record) { r.Name = "first" }); err != nil {
			t.Fatal(err)
		}
		if err := d.note(c, func(r *Record) { r.Name = "noted" }); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, want map[string]string) {
		t.Helper()
		got, err := d.loadContainers()
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for id, name := range want {
			if got[id] == nil || got[id].Name != name {
				t.Errorf("%s: %s is %+v, want %s", when, id, got[id], name)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d records, want %d", when, len(got), len(want))
		}
	}
	expect("after a crash", map[string]string{"brief": "noted", "lasting": "noted"})
	if err := d.change(lasting, func(r *Record) { r.Name = "second" }); err != nil {
		t.Fatal(err)
	}
	expect("with a note that is older", map[string]string{"brief": "noted", "lasting": "second"})
	if err := d.containers.remove("lasting"); err != nil {
		t.Fatal(err)
	}
	expect("with a note of one that was being removed", map[string]string{"brief": "noted"})
	if err := os.WriteFile(d.notes.path("brief"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("after a power cut", map[string]string{})
	if err := d.change(lasting, func(r *Record) { r.Name = "third" }); err != nil {
		t.Fatal(err)
	}
	if err := d.dropRecord("lasting"); err != nil {
		t.Fatal(err)
	}
	expect("at the end", map[string]string{})
}
