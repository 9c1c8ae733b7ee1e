package node

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

func (h *hands) edit(id string, change func(*hypervisor.Spec)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.specs[id]
	s.Disks, s.NICs = slices.Clone(s.Disks), slices.Clone(s.NICs)
	change(&s)
	h.specs[id] = s
}

func (h *hands) PlugDisk(_ context.Context, id string, d hypervisor.Disk) error {
	h.edit(id, func(s *hypervisor.Spec) { s.Disks = append(s.Disks, d) })
	return nil
}

// UnplugDisk waits for the guest, for ever when it is stubborn.
func (h *hands) UnplugDisk(ctx context.Context, id, disk string) error {
	h.mu.Lock()
	stubborn := h.stubborn
	h.calls = append(h.calls, "unplug "+disk)
	h.mu.Unlock()
	if stubborn {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	h.edit(id, func(s *hypervisor.Spec) {
		s.Disks = slices.DeleteFunc(s.Disks, func(d hypervisor.Disk) bool { return d.Name() == disk })
	})
	return nil
}

func (h *hands) PlugNIC(_ context.Context, id string, n hypervisor.NIC, tap *os.File) error {
	if tap == nil {
		return errors.New("a NIC without a tap")
	}
	h.edit(id, func(s *hypervisor.Spec) { s.NICs = append(s.NICs, n) })
	return nil
}

func (h *hands) UnplugNIC(_ context.Context, id, nic string) error {
	h.edit(id, func(s *hypervisor.Spec) {
		s.NICs = slices.DeleteFunc(s.NICs, func(n hypervisor.NIC) bool { return n.ID == nic })
	})
	return nil
}

func (h *hands) LimitDisk(_ context.Context, id, disk string, l *nodeapi.IOLimits) error {
	h.edit(id, func(s *hypervisor.Spec) {
		for i := range s.Disks {
			if s.Disks[i].Name() == disk {
				s.Disks[i].Limits = l
			}
		}
	})
	return nil
}

// Attach and Detach keep a volume as a file in the machine's directory.
func (h *hands) Attach(_ context.Context, dir string, v nodeapi.VolumeSource, _ bool) (hypervisor.Disk, error) {
	return hypervisor.Disk{File: v.ID, Format: "raw", Encrypted: v.Key != nil, Key: v.Key}, os.WriteFile(filepath.Join(dir, v.ID), nil, 0o600)
}

func (h *hands) Detach(_ context.Context, dir string, v nodeapi.VolumeSource) error {
	return os.RemoveAll(filepath.Join(dir, v.ID))
}

// devices lists what the machine has.
func (h *hands) devices() string {
	s, _ := h.Spec(id)
	var out []string
	for _, d := range s.Disks {
		out = append(out, d.Name())
	}
	for _, n := range s.NICs {
		out = append(out, n.ID)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(append(out, slices.Sorted(maps.Keys(h.plugged))...), " ")
}

func volume(name string) nodeapi.Disk {
	return nodeapi.Disk{Role: roleVolume, Volume: &nodeapi.VolumeSource{VolumeRef: nodeapi.VolumeRef{ID: name, Key: []byte("geheim")}}}
}

func local(name string) nodeapi.Disk {
	return nodeapi.Disk{Name: name, Role: "root", SizeMiB: 1}
}

func (h *hands) files() map[string]bool {
	entries, err := os.ReadDir(filepath.Join(h.dir, id))
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]bool{}
	for _, e := range entries {
		out[e.Name()] = true
	}
	return out
}

func TestDevicesFollowTheInstance(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	i := wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{})
	i.Disks = []nodeapi.Disk{local("root"), volume("v1")}
	h.want(i)
	h.await(id, gen(1))
	raw, err := os.ReadFile(filepath.Join(h.dir, id, memoryFile))
	if err != nil || !strings.Contains(string(raw), "v1") || strings.Contains(string(raw), "Z2VoZWlt") {
		t.Errorf("remembered (%v) %s", err, raw)
	}

	i.Gen, i.Disks, i.NICs = 2, []nodeapi.Disk{local("root"), volume("v2")}, []nodeapi.NIC{{PortID: "q"}}
	i.Disks[1].Limits = &nodeapi.IOLimits{TotalIOPS: 9}
	h.want(i)
	if s := h.await(id, gen(2)); s.Fault != "" || h.devices() != "root v2 q q" {
		t.Errorf("%+v, devices %q", s, h.devices())
	}
	if f := h.files(); f["v1"] || !f["v2"] || !f["root"] {
		t.Errorf("files %v", f)
	}
	i.Gen, i.Disks = 3, slices.Clone(i.Disks)
	i.Disks[1].Limits = nil
	h.want(i)
	h.await(id, gen(3))
	if s, _ := h.Spec(id); s.Disks[1].Limits != nil || h.count("start") != 1 {
		t.Errorf("limits %v, %d starts", s.Disks[1].Limits, h.count("start"))
	}
	i.Gen, i.Deleted = 4, true
	h.want(i)
	if s := h.await(id, gen(4)); !s.Gone {
		t.Errorf("reported %+v", s)
	}
}

// A guest that does not let a disk go keeps nothing else from being done.
func TestRemovalDoesNotWaitForTheGuest(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	i := wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{})
	i.Disks = []nodeapi.Disk{local("root"), volume("v1")}
	h.want(i)
	h.await(id, gen(1))
	h.mu.Lock()
	h.stubborn = true
	h.mu.Unlock()
	i.Gen, i.Disks = 2, i.Disks[:1]
	h.want(i)
	h.await(id, func(nodeapi.InstanceStatus) bool {
		return slices.Contains(h.calls, "unplug v1")
	})
	i.Gen, i.Deleted = 3, true
	h.want(i)
	if s := h.await(id, gen(3)); !s.Gone {
		t.Errorf("reported %+v", s)
	}
}

// A resize of a stopped server: its new disk is a copy, the old one is kept and
// comes back or goes.
func TestDisksUnderNewNames(t *testing.T) {
	h := newHands(t)
	defer h.run()()
	i := wanted(1, nodeapi.PowerRunning, nodeapi.Reboot{})
	i.Disks = []nodeapi.Disk{local("root")}
	h.want(i)
	h.await(id, gen(1))
	if err := os.WriteFile(filepath.Join(h.dir, id, "root"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	step := func(power nodeapi.Power, disk nodeapi.Disk, kept ...string) map[string]bool {
		t.Helper()
		i.Gen++
		i.Power, i.Disks, i.Kept = power, []nodeapi.Disk{disk}, kept
		h.want(i)
		if s := h.await(id, gen(i.Gen)); s.Fault != "" {
			t.Fatalf("reported %+v", s)
		}
		return h.files()
	}
	step(nodeapi.PowerStopped, local("root"))
	bigger := nodeapi.Disk{Name: "root-2", Role: "root", SizeMiB: 2, CopyFrom: "root"}
	if f := step(nodeapi.PowerStopped, bigger, "root"); !f["root"] || !f["root-2"] {
		t.Fatalf("files after the resize %v", f)
	}
	data, err := os.ReadFile(filepath.Join(h.dir, id, "root-2"))
	if err != nil || len(data) != 2<<20 || !strings.HasPrefix(string(data), "content") {
		t.Errorf("the copy has %d bytes, %v", len(data), err)
	}
	if f := step(nodeapi.PowerStopped, local("root")); !f["root"] || f["root-2"] {
		t.Fatalf("files after going back %v", f)
	}
	step(nodeapi.PowerStopped, bigger, "root")
	if f := step(nodeapi.PowerRunning, bigger); f["root"] || !f["root-2"] || h.devices() != "root-2 p p" {
		t.Fatalf("files after the confirmation %v, devices %q", f, h.devices())
	}
}
