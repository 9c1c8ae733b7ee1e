package hypervisor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

const (
	// undoTimeout bounds what brings a machine back that was not sent.
	undoTimeout = 30 * time.Second
	// wordTimeout is how long the other host is told that the machine is its own. It
	// learns of it anyway when the control plane says so.
	wordTimeout = 3 * time.Second
	// receiverTimeout is how long the other host may take to launch the machine.
	receiverTimeout = 30 * time.Second
	progressEvery   = 50 * time.Millisecond
)

// Send implements Driver.
func (d *QEMU) Send(ctx context.Context, id string, to Departure) error {
	return d.locked(ctx, id, "sending", func(m *machine) error {
		if mv := m.moving(); mv != nil {
			if mv.Role == MoveIn {
				return errs.Conflictf("machine %s is being moved here", id)
			}
			return nil
		}
		if err := m.mayGoOn(); err != nil {
			return err
		}
		power := m.power()
		if power == nodeapi.PowerCrashed {
			power = nodeapi.PowerStopped
		}
		if to.Live != isLive(power) {
			return errs.Conflictf("machine %s is %s", id, power)
		}
		mv := &move{wake: make(chan struct{}, 1)}
		mv.Role, mv.Live, mv.Power, mv.Target = MoveOut, to.Live, power, to.To
		mv.Target.PSK = nil
		mv.now.Phase = nodeapi.MoveDisks
		s := sender{m: m, to: to.To, live: to.Live, power: power, run: m.command, wake: mv.wake}
		if err := s.choose(to.Disks); err != nil {
			return err
		}
		if !to.Live {
			var err error
			if mv.Worker, mv.worker, err = m.startWorker(ctx, s.opened()); err != nil {
				return err
			}
			s.run = m.worker
		}
		if err := m.beginMove(mv); err != nil {
			return err
		}
		m.background(s.all)
		return nil
	})
}

// sender sends a machine.
type sender struct {
	m     *machine
	to    nodeapi.MoveTarget
	live  bool
	power nodeapi.Power
	disks []Outgoing
	run   qmpRunner // where the disks are open
	wake  <-chan struct{}

	continued bool // the memory was told to go on after the copies of the disks ended
}

// choose takes the disks that go, and the files that go beside them.
func (s *sender) choose(disks []Outgoing) error {
	s.disks = disks
	for name, d := range map[string]Disk{memoryFile: memoryDisk(), varsFile: varsDisk()} {
		if s.to.Disks[name] != "" {
			s.disks = append(s.disks, Outgoing{Disk: d})
		}
	}
	for i := range s.disks {
		if s.to.Disks[s.disks[i].Name()] == "" {
			return errs.Conflictf("the other node does not wait for disk %s", s.disks[i].Name())
		}
	}
	if (s.power == nodeapi.PowerSuspended) != (s.to.Disks[memoryFile] != "") || s.live != (s.to.Memory != "") {
		return errs.Conflictf("the other node waits for the machine in another power state than %s", s.power)
	}
	if s.power != nodeapi.PowerSuspended {
		return nil
	}
	st, err := s.m.readState()
	if err != nil {
		return err
	}
	path := filepath.Join(s.m.dir, memoryFile)
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if size := savedMemory(&st.Spec); fi.Size() < size {
		return os.Truncate(path, size)
	} else if fi.Size() > size {
		return errs.Conflictf("the saved memory of machine %s is too large", s.m.id)
	}
	return nil
}

func (s *sender) opened() []Disk {
	var out []Disk
	for _, d := range s.disks {
		d.Disk.Limits, d.Disk.ReadOnly = nil, false
		out = append(out, d.Disk)
	}
	return out
}

// all sends the machine, and undoes what it did when that fails. When the driver
// is closed it stops where it is: the next one goes on or undoes it.
func (s *sender) all(ctx context.Context) {
	m := s.m
	err := s.send(ctx)
	if m.d.life.Err() != nil {
		return
	}
	free := context.WithoutCancel(ctx)
	if err == nil {
		m.finish(free)
		return
	}
	m.d.Log.Warn("a machine is not moved", "server", m.id, "err", err)
	m.giveUp(free, err.Error())
}

// send does it all, up to and with the moment from which the machine is the other host's.
func (s *sender) send(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.mirrorAll(ctx); err != nil {
		return err
	}
	if err := s.offer(ctx); err != nil {
		return fmt.Errorf("describing the machine: %w", err)
	}
	if s.live {
		if err := s.sendMemory(ctx); err != nil {
			return err
		}
	} else if err := s.m.endMirrors(ctx, s.run); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.m.updateMove(func(st *moveState) { st.Done = true })
}

// connect makes what QEMU needs to reach the other host.
func (s *sender) connect(ctx context.Context) error {
	o := object{kind: "tls-creds-psk", id: moveCreds, user: s.to.User, data: s.to.PSK}
	if err := o.write(s.m.dir, s.m.d.UID, s.m.d.GID); err != nil {
		return fmt.Errorf("handing over a key: %w", err)
	}
	defer os.RemoveAll(filepath.Join(s.m.dir, o.path()))
	if err := s.run(ctx, "object-add", o.byFile(), nil); err != nil {
		return err
	}
	for i := range s.disks {
		if err := s.m.addRemote(ctx, s.run, s.disks[i].Name()); err != nil {
			return fmt.Errorf("disk %s at the other node: %w", s.disks[i].Name(), err)
		}
	}
	return nil
}

func remoteNode(name string) string { return qemuID("move", name) }
func mirrorJob(name string) string  { return qemuID("job", name) }

// addRemote opens a disk of the other host.
func (m *machine) addRemote(ctx context.Context, run qmpRunner, name string) error {
	mv := m.moving()
	addr := mv.Target.Disks[name]
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errs.Invalidf("%q is not host:port", addr)
	}
	return run(ctx, "blockdev-add", map[string]any{"driver": "nbd", "node-name": remoteNode(name), "export": name, "tls-creds": moveCreds,
		"server": map[string]any{"type": "inet", "host": host, "port": port}, "discard": "unmap"}, nil)
}

// mirrorAll copies the disks until both sides are the same, and keeps them so.
func (s *sender) mirrorAll(ctx context.Context) error {
	for i := range s.disks {
		d := &s.disks[i]
		sync := "full"
		if d.Top {
			sync = "top"
		}
		err := s.run(ctx, "blockdev-mirror", map[string]any{"job-id": mirrorJob(d.Name()), "device": d.node(), "target": remoteNode(d.Name()),
			"sync": sync, "copy-mode": "write-blocking", "auto-dismiss": false}, nil)
		if err != nil {
			return fmt.Errorf("copying disk %s: %w", d.Name(), err)
		}
	}
	return wait.Until(ctx, "the disks", progressEvery, func(ctx context.Context) (bool, error) {
		if err := s.watchDisks(ctx); err != nil {
			return false, err
		}
		jobs, err := mirrors(ctx, s.run)
		return err == nil && !slices.ContainsFunc(jobs, func(j mirror) bool { return !j.Ready }), err
	})
}

// mirror is a job that copies a disk.
type mirror struct {
	ID     string `json:"device"`
	Ready  bool   `json:"ready"`
	Status string `json:"status"`
	Error  string `json:"error"`
	Len    int64  `json:"len"`
	Offset int64  `json:"offset"`
}

func mirrors(ctx context.Context, run qmpRunner) ([]mirror, error) {
	var all, out []mirror
	err := run(ctx, "query-block-jobs", nil, &all)
	for _, j := range all {
		if strings.HasPrefix(j.ID, "job-") {
			out = append(out, j)
		}
	}
	return out, err
}

func (m *machine) countDisks(jobs []mirror) {
	m.progress(func(p *nodeapi.MoveProgress) {
		p.DiskTotal, p.DiskProcessed = 0, 0
		for _, j := range jobs {
			p.DiskTotal += j.Len
			p.DiskProcessed += j.Offset
		}
		p.DiskRemaining = p.DiskTotal - p.DiskProcessed
	})
}

func (m *machine) progress(change func(*nodeapi.MoveProgress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.move != nil {
		change(&m.move.now)
	}
}

// endMirrors ends the copying of disks: of those that are the same by now, so that
// the copies are complete.
func (m *machine) endMirrors(ctx context.Context, run qmpRunner) error {
	jobs, err := mirrors(ctx, run)
	if err != nil {
		return err
	}
	m.countDisks(jobs)
	for _, j := range jobs {
		if j.Status != "concluded" {
			if err := run(ctx, "block-job-cancel", map[string]any{"device": j.ID, "force": !j.Ready}, nil); err != nil {
				return err
			}
		}
	}
	var failed error
	err = wait.Until(ctx, "the copying of disks to end", time.Millisecond, func(ctx context.Context) (bool, error) {
		jobs, err := mirrors(ctx, run)
		left := len(jobs)
		for _, j := range jobs {
			if err == nil && j.Status == "concluded" {
				if j.Error != "" {
					failed = errors.Join(failed, fmt.Errorf("copying a disk: %s", j.Error))
				}
				err = run(ctx, "job-dismiss", map[string]string{"id": j.ID}, nil)
				left--
			}
		}
		return left == 0, err
	})
	return errors.Join(err, failed)
}

// offer writes what the machine looks like into the switch.
func (s *sender) offer(ctx context.Context) error {
	st, err := s.m.readState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	raw, err := json.Marshal(st.Spec)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint64([]byte(offerMagic), uint64(len(raw)))
	for _, part := range []struct {
		at   int
		data []byte
	}{{offerStart, raw}, {offerHead, head}} { // what says that it is there comes last
		n := (len(part.data) + 511) / 512 * 512
		file := filepath.Join(s.m.dir, offerFile)
		if err := os.WriteFile(file, append(part.data, make([]byte, n-len(part.data))...), 0o600); err != nil {
			return err
		}
		if err := os.Chown(file, s.m.d.UID, s.m.d.GID); err != nil {
			return err
		}
		if err := s.m.throwSwitch(ctx, s.run, fmt.Sprintf("-s %s %d %d", offerFile, part.at, n)); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(s.m.dir, offerFile))
}

// throwSwitch writes to the other host's switch. It is opened anew each time,
// because QEMU writes no more to what was open when it gave the memory away.
func (m *machine) throwSwitch(ctx context.Context, run qmpRunner, what string) error {
	_ = run(ctx, "blockdev-del", map[string]string{"node-name": remoteNode(switchFile)}, nil) // a restart may have left it
	if err := m.addRemote(ctx, run, switchFile); err != nil {
		return err
	}
	node := map[string]string{"node-name": remoteNode(switchFile)}
	var said string
	err := run(ctx, "human-monitor-command", map[string]string{"command-line": fmt.Sprintf("qemu-io %s \"write -q %s\"", remoteNode(switchFile), what)}, &said)
	if err == nil && strings.TrimSpace(said) != "" {
		err = errors.New(strings.TrimSpace(said))
	}
	return errors.Join(err, run(ctx, "blockdev-del", node, nil))
}
