package hypervisortest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/strata-cloud/strata/internal/configdrive"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// restless is a guest's program that never stops to write to both its disks and to
// read back what it wrote before. It counts on the console, with the guest's uptime.
const restless = `#!/bin/sh
head -c 4194304 /dev/urandom > /run/want
dd if=/run/want of=/dev/vdb bs=1M 2>/dev/null
mkdir -p /var/restless
i=0
while :; do
	i=$((i+1))
	head -c 65536 /dev/urandom > /var/restless/$((i%8))
	(cd /var/restless; md5sum ? > sums)
	sync
	echo 3 > /proc/sys/vm/drop_caches
	if (cd /var/restless; md5sum -s -c sums) && head -c 4194304 /dev/vdb | cmp -s - /run/want; then
		echo "whole $i $(cut -d. -f1 /proc/uptime)" > /dev/ttyS0
	else
		echo "BROKEN $i" > /dev/ttyS0
	fi
done
`

// side is one of two hosts.
type side struct {
	hypervisor.Driver
	open Open
	name string
}

// crash ends the driver and starts it anew; its machines go on.
func (s *side) crash(t *testing.T) {
	s.Close()
	s.Driver = s.open(t)
}

// movers is a machine and the two hosts that it moves between.
type movers struct {
	*testing.T
	here, there *side // where the machine is, and where it is not
	spec        hypervisor.Spec
	count, up   int // what the guest said last
}

// RunMove runs the part of the suite that needs two hosts, each with its own directory.
func RunMove(t *testing.T, one, two Open) {
	m := &movers{T: t, here: &side{open: one, name: "one"}, there: &side{open: two, name: "two"}}
	for _, s := range []*side{m.here, m.there} {
		s.Driver = s.open(t)
		defer func() {
			if err := s.Remove(context.WithoutCancel(t.Context()), serverID); err != nil {
				t.Error(err)
			}
			s.Close()
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	m.spec = m.files(m.here)
	must(t, m.here.Start(ctx, m.spec, nil))
	m.goesOn(ctx)
	for _, part := range []struct {
		name string
		run  func(context.Context)
	}{{"Live", m.live}, {"Refused", m.refused}, {"Abort", m.abort}, {"Force", m.force}, {"Crash", m.crashes}, {"Paused", m.paused}, {"Suspended", m.suspended}, {"Stopped", m.stopped}, {"Cloned", m.cloned}, {"Booting", m.booting}} {
		ok := t.Run(part.name, func(t *testing.T) {
			m.T = t
			part.run(ctx)
		})
		m.T = t
		if !ok {
			return
		}
	}
}

// files puts what the machine needs beside its own disks' contents on a host.
func (m *movers) files(s *side) hypervisor.Spec {
	m.Helper()
	dir := mustDir(m.T, s, serverID)
	spec := Tiny(m.T, s, serverID)
	must(m.T, os.WriteFile(filepath.Join(dir, "data"), nil, 0o600))
	must(m.T, os.Truncate(filepath.Join(dir, "data"), 64<<20))
	inst := &nodeapi.Instance{ID: serverID, Guest: nodeapi.GuestConfig{ConfigDrive: true, UserData: []byte(restless)}}
	must(m.T, configdrive.Ensure(inst, filepath.Join(dir, "config")))
	spec.Disks = append(spec.Disks, hypervisor.Disk{ID: "data", File: "data", Format: "raw"},
		hypervisor.Disk{ID: "config", File: "config", Format: "raw", ReadOnly: true, Serial: "config-2"})
	return spec
}

// receive makes room on the other host.
func (m *movers) receive(ctx context.Context, p nodeapi.Power) nodeapi.MoveTarget {
	m.Helper()
	a := hypervisor.Arrival{Spec: m.freshFiles(), Own: []string{"disk", "data"}, Power: p, Addr: "127.0.0.1"}
	to, err := m.there.Receive(ctx, a)
	must(m.T, err)
	again, err := m.there.Receive(ctx, a)
	must(m.T, err)
	if fmt.Sprint(*to) != fmt.Sprint(*again) {
		m.Errorf("asked again, the other host says %v instead of %v", again, to)
	}
	if st, err := m.there.State(serverID); err != nil || st != nodeapi.PowerStopped {
		m.Errorf("a machine that has not come is %s, %v", st, err)
	}
	if err := m.there.Start(ctx, m.spec, nil); !errs.Is(err, errs.Conflict) {
		m.Errorf("starting a machine that has not come: %v", err)
	}
	return *to
}

// freshFiles is files on the other host, where nothing may be left.
func (m *movers) freshFiles() hypervisor.Spec {
	m.Helper()
	must(m.T, m.there.Remove(m.Context(), serverID))
	return m.files(m.there)
}

func (m *movers) departure(to nodeapi.MoveTarget) hypervisor.Departure {
	return hypervisor.Departure{To: to, Live: to.Memory != "", Disks: []hypervisor.Outgoing{
		{Disk: hypervisor.Disk{File: "disk", Format: "qcow2"}, Top: true}, {Disk: hypervisor.Disk{ID: "data", File: "data", Format: "raw"}}}}
}

// await waits for the end of a move.
func (m *movers) await(ctx context.Context) nodeapi.MoveProgress {
	m.Helper()
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var mv hypervisor.Move
	err := wait.Until(ctx, "the move to end", 5*time.Millisecond, func(context.Context) (bool, error) {
		var err error
		mv, err = m.here.Move(serverID)
		return mv.Phase == nodeapi.MoveDone || mv.Phase == nodeapi.MoveFailed || mv.Role != hypervisor.MoveOut, err
	})
	if err != nil {
		m.Fatalf("%v; so far %+v", err, mv)
	}
	return mv.MoveProgress
}

// move moves the machine and swaps the hosts.
func (m *movers) move(ctx context.Context, p nodeapi.Power) nodeapi.MoveProgress {
	m.Helper()
	begin := time.Now()
	to := m.receive(ctx, p)
	ready := time.Now()
	must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
	must(m.T, m.here.Send(ctx, serverID, m.departure(to)))
	got := m.await(ctx)
	if got.Phase != nodeapi.MoveDone {
		m.Fatalf("the move ended as %+v", got)
	}
	m.Logf("%s: room after %v, done %v later; stood still for %d ms; memory %d KiB of %d, disks %d KiB", p, ready.Sub(begin).Round(time.Millisecond), time.Since(ready).Round(time.Millisecond),
		got.DowntimeMS, got.MemoryProcessed>>10, got.MemoryTotal>>10, got.DiskProcessed>>10)
	m.arrived(ctx, p)
	return got
}

// arrived checks that the machine is at the other host alone, for good, and swaps the hosts.
func (m *movers) arrived(ctx context.Context, p nodeapi.Power) {
	m.Helper()
	m.stays(ctx)
	m.here.crash(m.T)
	m.stays(ctx)
	if err := m.there.EndMove(ctx, serverID); !errs.Is(err, errs.Conflict) {
		m.Errorf("undoing at the other host what is done: %v", err)
	}
	must(m.T, m.there.Arrive(ctx, serverID))
	must(m.T, m.there.Arrive(ctx, serverID))
	if mv, err := m.there.Move(serverID); err != nil || mv.Role != hypervisor.MoveNone {
		m.Errorf("after its arrival: %+v, %v", mv, err)
	}
	m.there.crash(m.T)
	if st, err := m.there.State(serverID); err != nil || st != p {
		m.Fatalf("the machine arrived %s, %v; want %s", st, err, p)
	}
	left, err := filepath.Glob(filepath.Join(mustDir(m.T, m.there, serverID), "move*"))
	if err != nil || len(left) > 0 {
		m.Errorf("left %v, %v", left, err)
	}
	m.here, m.there = m.there, m.here
}

// stays checks that the host which has sent the machine never runs it again.
func (m *movers) stays(ctx context.Context) {
	m.Helper()
	if st, err := m.here.State(serverID); err != nil || st != nodeapi.PowerStopped {
		m.Errorf("a machine that has gone is %s, %v", st, err)
	}
	for what, err := range map[string]error{"start": m.here.Start(ctx, m.spec, nil), "resume": m.here.Resume(ctx, serverID), "restore": m.here.Restore(ctx, serverID, nil, nil),
		"reboot": m.here.Reboot(ctx, serverID, 0), "undoing": m.here.EndMove(ctx, serverID)} {
		if !errs.Is(err, errs.Conflict) {
			m.Errorf("%s of a machine that has gone: %v", what, err)
		}
	}
	must(m.T, m.here.Stop(ctx, serverID, 0))
	if mv, err := m.here.Move(serverID); err != nil || mv.Phase != nodeapi.MoveDone {
		m.Errorf("its move is %+v, %v", mv, err)
	}
	secretless(m.T, mustDir(m.T, m.here, serverID))
}

// secretless finds no key in a directory, and none on a command line.
func secretless(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{"key-*", "move-psk"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

var countPattern = regexp.MustCompile(`whole (\d+) (\d+)`)

// goesOn waits until the guest has counted on twice, from where it was: it has
// neither begun anew nor been set back, and its disks are whole.
func (m *movers) goesOn(ctx context.Context) {
	m.Helper()
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	target := m.count + 2
	err := wait.Until(ctx, "the guest to go on", 20*time.Millisecond, func(context.Context) (bool, error) {
		log, err := m.here.ConsoleLog(serverID, 0)
		if err != nil {
			return false, err
		}
		if strings.Contains(string(log), "BROKEN") {
			return false, fmt.Errorf("the guest's disks are broken:\n%s", log)
		}
		for _, f := range countPattern.FindAllStringSubmatch(string(log), -1) {
			n, _ := strconv.Atoi(f[1])
			up, _ := strconv.Atoi(f[2])
			if n == 1 && m.count > 1 && up < m.up {
				return false, fmt.Errorf("the guest began anew:\n%s", log)
			}
			if n > m.count {
				m.count, m.up = n, up
			}
		}
		return m.count >= target, nil
	})
	if err != nil {
		log, _ := m.here.ConsoleLog(serverID, 0)
		m.Fatalf("on %s: %v; count %d\n%s", m.here.name, err, m.count, log)
	}
}

func (m *movers) live(ctx context.Context) {
	for range 2 {
		if got := m.move(ctx, nodeapi.PowerRunning); got.DowntimeMS <= 0 || got.MemoryTotal == 0 || got.DiskTotal == 0 || got.MemoryRemaining != 0 {
			m.Errorf("progress %+v", got)
		}
		m.goesOn(ctx)
	}
}

func (m *movers) paused(ctx context.Context) {
	must(m.T, m.here.Pause(ctx, serverID))
	m.move(ctx, nodeapi.PowerPaused)
	must(m.T, m.here.Resume(ctx, serverID))
	m.goesOn(ctx)
}

func (m *movers) suspended(ctx context.Context) {
	must(m.T, m.here.Suspend(ctx, serverID))
	m.move(ctx, nodeapi.PowerSuspended)
	must(m.T, m.here.Restore(ctx, serverID, nil, nil))
	m.goesOn(ctx)
}

func (m *movers) stopped(ctx context.Context) {
	must(m.T, m.here.Stop(ctx, serverID, 0))
	from := mustDir(m.T, m.here, serverID)
	m.move(ctx, nodeapi.PowerStopped)
	for _, name := range []string{"disk", "data"} {
		if out, err := exec.Command("qemu-img", "compare", filepath.Join(from, name), filepath.Join(mustDir(m.T, m.here, serverID), name)).CombinedOutput(); err != nil {
			m.Errorf("disk %s: %v: %s", name, err, out)
		}
	}
	must(m.T, m.here.Start(ctx, m.spec, nil))
	AwaitConsole(ctx, m.T, m.here, serverID, "login:")
}

// cloned moves a machine whose disk has a base that the other host has not.
func (m *movers) cloned(ctx context.Context) {
	must(m.T, m.here.Remove(ctx, serverID))
	from, disk := freeze(ctx, m.T, m.here)
	defer from.Memory.Close()
	defer from.Devices.Close()
	must(m.T, m.here.Clone(ctx, cloneSpec(m.T, m.here, serverID, disk), from))
	must(m.T, m.there.Remove(ctx, serverID))
	to, err := m.there.Receive(ctx, hypervisor.Arrival{Spec: Tiny(m.T, m.there, serverID), Own: []string{"disk"}, Power: nodeapi.PowerRunning, Addr: "127.0.0.1"})
	must(m.T, err)
	must(m.T, m.here.Send(ctx, serverID, hypervisor.Departure{To: *to, Live: true, Disks: []hypervisor.Outgoing{{Disk: hypervisor.Disk{File: "disk", Format: "qcow2"}}}}))
	if got := m.await(ctx); got.Phase != nodeapi.MoveDone {
		m.Fatalf("the move ended as %+v", got)
	}
	m.arrived(ctx, nodeapi.PowerRunning)
	must(m.T, m.here.Reboot(ctx, serverID, bootLimit))
	AwaitConsole(ctx, m.T, m.here, serverID, "login:")
	if log, err := m.here.ConsoleLog(serverID, 0); err != nil || !strings.Contains(string(log), "shutting down") {
		m.Errorf("the guest did not hear the power button: %v\n%s", err, log)
	}
}
