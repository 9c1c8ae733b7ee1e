package hypervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/wait"
)

// The switch is a small disk beside those of the machine, by which the sending
// host tells the receiving one what the machine looks like (the offer) and, in the
// end, that it is its own now (the word).
const (
	switchSize  = 1 << 20
	switchWord  = 'G' // in every byte of the first sector
	offerHead   = 512 // offset of offerMagic and the length
	offerMagic  = "strata1\n"
	offerStart  = 4096
	switchEvery = 5 * time.Millisecond // how often the switch is looked at
)

// switchDisk is how a worker opens the switch.
func switchDisk() Disk { return Disk{ID: switchFile, File: switchFile, Format: "raw"} }

// Receive implements Driver.
func (d *QEMU) Receive(ctx context.Context, a Arrival) (*nodeapi.MoveTarget, error) {
	if err := a.Spec.Validate(); err != nil {
		return nil, err
	}
	m, err := d.begin(ctx, a.Spec.ID)
	if err != nil {
		return nil, err
	}
	defer m.unlock()
	mv := m.moving()
	switch {
	case mv != nil && (mv.Role == MoveOut || mv.Done):
		return nil, errs.Conflictf("machine %s has moved", a.Spec.ID)
	case mv != nil && mv.Fault == "" && mv.Worker.Alive() && mv.Power == a.Power:
		to := mv.Target
		to.PSK, err = m.readPSK()
		return &to, err
	case mv == nil && m.running():
		return nil, errs.Conflictf("machine %s runs here", a.Spec.ID)
	}
	m.haltMove()
	m.expect()
	if err := errors.Join(m.endAll(ctx), m.kill(ctx), m.forgetMove()); err != nil {
		return nil, err
	}
	to, err := m.receive(ctx, &a)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making room for machine %s: %w", m.id, err), m.endAll(context.WithoutCancel(ctx)), m.forgetMove())
	}
	return to, nil
}

// receive makes all that waits for the machine.
func (m *machine) receive(ctx context.Context, a *Arrival) (_ *nodeapi.MoveTarget, err error) {
	mv := &move{arrival: a, wake: make(chan struct{}, 1)}
	mv.Role, mv.Live, mv.Power = MoveIn, a.live(), a.Power
	to := nodeapi.MoveTarget{User: "move", Disks: map[string]string{}}
	if to.PSK, err = newPSK(); err != nil {
		return nil, err
	}
	disks, err := m.arriving(a)
	if err != nil {
		return nil, err
	}
	if err := m.writePSK(to); err != nil {
		return nil, err
	}
	if a.Taps, err = dupTaps(a.Taps); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeTaps(a.Taps)
		}
	}()
	if mv.Worker, mv.worker, err = m.startWorker(ctx, disks); err != nil {
		return nil, err
	}
	m.putMove(mv)
	if err = m.listenFor(ctx, &to, disks, a); err != nil {
		return nil, err
	}
	kept := to
	kept.PSK = nil // it is in its own file
	err = m.editState(func(st *machineState) {
		st.Spec = a.Spec // without keys
		mv.Target = kept
	})
	if err != nil {
		return nil, err
	}
	m.receiveOn()
	return &to, nil
}

// listenFor completes the target with the addresses where the disks and the memory are taken.
func (m *machine) listenFor(ctx context.Context, to *nodeapi.MoveTarget, disks []Disk, a *Arrival) error {
	addr, err := m.serveDisks(ctx, disks, a.Addr)
	if err != nil {
		return err
	}
	for i := range disks {
		to.Disks[disks[i].Name()] = addr
	}
	if a.live() {
		to.Memory, err = freePort(ctx, a.Addr)
	}
	return err
}

// arriving lists the disks whose contents come, and makes the files that are not the caller's.
func (m *machine) arriving(a *Arrival) ([]Disk, error) {
	var out []Disk
	for i := range a.Spec.Disks {
		if d := a.Spec.Disks[i]; slices.Contains(a.Own, d.Name()) {
			d.ReadOnly = false
			out = append(out, d)
		}
	}
	if len(out) != len(a.Own) {
		return nil, errs.Invalidf("not all of the disks %v are the machine's", a.Own)
	}
	files := []Disk{switchDisk()}
	sizes := map[string]int64{switchFile: switchSize}
	if a.Power == nodeapi.PowerSuspended {
		files, sizes[memoryFile] = append(files, memoryDisk()), savedMemory(&a.Spec)
	}
	if !a.live() && a.Spec.Firmware == "uefi" {
		files = append(files, varsDisk())
		uefi, err := findUEFI()
		if err != nil {
			return nil, err
		}
		if err := copyOnce(uefi.vars, filepath.Join(m.dir, varsFile)); err != nil {
			return nil, err
		}
	}
	for name, size := range sizes {
		f, err := os.OpenFile(filepath.Join(m.dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return nil, err
		}
	}
	return append(out, files...), nil
}

func memoryDisk() Disk { return Disk{ID: memoryFile, File: memoryFile, Format: "raw"} }
func varsDisk() Disk   { return Disk{ID: varsFile, File: varsFile, Format: "raw"} }

// savedMemory is how large the file of a suspended machine's memory is taken to be
// at both ends of a move; the rest is a hole.
func savedMemory(s *Spec) int64 { return int64(s.MemoryMiB+s.MemoryMiB/8+256) << 20 }

// serveDisks exports the worker's disks, each under its name, at a free port.
func (m *machine) serveDisks(ctx context.Context, disks []Disk, host string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("listening for a move: %w", err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return "", err
	}
	defer f.Close()
	m.mu.Lock()
	mon := m.move.worker
	m.mu.Unlock()
	if err := mon.run(ctx, "object-add", pskServer(), nil); err != nil {
		return "", err
	}
	if err := mon.runFD(ctx, "getfd", map[string]string{"fdname": "listen"}, nil, f); err != nil {
		return "", err
	}
	addr := map[string]any{"type": "fd", "data": map[string]string{"str": "listen"}}
	if err := mon.run(ctx, "nbd-server-start", map[string]any{"addr": addr, "tls-creds": moveCreds}, nil); err != nil {
		return "", err
	}
	for i := range disks {
		d := &disks[i]
		export := map[string]any{"type": "nbd", "id": qemuID("export", d.Name()), "node-name": d.node(), "name": d.Name(), "writable": true}
		if err := mon.run(ctx, "block-export-add", export, nil); err != nil {
			return "", err
		}
	}
	return l.Addr().String(), nil
}

// freePort finds a port that a QEMU can listen on in a moment.
func freePort(ctx context.Context, host string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("listening for a move: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// pskServer is the server's end of the move's TLS. It reads the file with the key
// at each handshake: that stays as long as the move.
func pskServer() map[string]any {
	return map[string]any{"qom-type": "tls-creds-psk", "id": moveCreds, "endpoint": "server", "dir": movePSKDir}
}

func (m *machine) writePSK(to nodeapi.MoveTarget) error {
	dir := filepath.Join(m.dir, movePSKDir)
	file := filepath.Join(dir, "keys.psk")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, []byte(to.User+":"+hex.EncodeToString(to.PSK)+"\n"), 0o600)); err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, m.d.UID, m.d.GID), os.Chown(file, m.d.UID, m.d.GID))
}

func (m *machine) readPSK() ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(m.dir, movePSKDir, "keys.psk"))
	if err != nil {
		return nil, err
	}
	_, key, _ := strings.Cut(strings.TrimSpace(string(raw)), ":")
	return hex.DecodeString(key)
}

// dupTaps makes descriptors that are the driver's own.
func dupTaps(taps map[string]*os.File) (map[string]*os.File, error) {
	out := map[string]*os.File{}
	for id, f := range taps {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeTaps(out)
			return nil, fmt.Errorf("keeping a tap: %w", err)
		}
		out[id] = os.NewFile(uintptr(fd), f.Name())
	}
	return out, nil
}

func closeTaps(taps map[string]*os.File) {
	for _, f := range taps {
		f.Close()
	}
}

// receiveOn looks at the switch in the background until the machine is here.
func (m *machine) receiveOn() {
	m.background(func(ctx context.Context) {
		err := m.await(ctx)
		m.mu.Lock()
		if m.move != nil && m.move.arrival != nil {
			closeTaps(m.move.arrival.Taps)
			m.move.arrival.Taps = nil
		}
		m.mu.Unlock()
		if err == nil || ctx.Err() != nil {
			return
		}
		m.d.Log.Error("receiving a machine", "server", m.id, "err", err)
		m.refuse(context.WithoutCancel(ctx), err.Error())
	})
}

// refuse notes that the machine cannot come, and has the sending host see it.
func (m *machine) refuse(ctx context.Context, why string) {
	err := m.updateMove(func(s *moveState) { s.Fault = why })
	if mv := m.moving(); mv != nil && !mv.Done {
		m.letMoveGo()
		err = errors.Join(err, end(ctx, mv.Worker))
	}
	if err != nil {
		m.d.Log.Error("a move is not refused", "server", m.id, "err", err)
	}
}

// await launches the machine when it is offered, and has it go on when it is ours.
func (m *machine) await(ctx context.Context) error {
	mv := m.moving()
	if mv.Live && !m.running() {
		var spec *Spec
		err := wait.Until(ctx, "a machine's description", switchEvery, func(context.Context) (bool, error) {
			var err error
			spec, err = m.readOffer()
			return spec != nil, err
		})
		if err != nil {
			return err
		}
		if err := m.launchReceiver(ctx, spec); err != nil {
			return fmt.Errorf("launching: %w", err)
		}
	}
	err := wait.Until(ctx, "a machine", switchEvery, func(context.Context) (bool, error) { return m.told(), nil })
	if err != nil {
		return err
	}
	return m.land(ctx)
}

// told says whether the sending host has said that the machine is here now.
func (m *machine) told() bool {
	b, err := m.readSwitch(0, 1)
	return err == nil && b[0] == switchWord
}

func (m *machine) readSwitch(at int64, n int) ([]byte, error) {
	f, err := os.Open(filepath.Join(m.dir, switchFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, at, int64(n)), b); err != nil {
		return nil, err
	}
	return b, nil
}

// readOffer reads what the machine looks like at the sending host; nil: not told
// yet. Its ID is "" when the machine was never started there.
func (m *machine) readOffer() (*Spec, error) {
	head, err := m.readSwitch(offerHead, len(offerMagic)+8)
	if err != nil || !bytes.HasPrefix(head, []byte(offerMagic)) {
		return nil, err
	}
	n := binary.BigEndian.Uint64(head[len(offerMagic):])
	if n > switchSize-offerStart {
		return nil, errs.Invalidf("the description of a machine has %d bytes", n)
	}
	raw, err := m.readSwitch(offerStart, int(n))
	if err != nil {
		return nil, err
	}
	s := new(Spec)
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("the description of a machine: %w", err)
	}
	return s, nil
}

// merge makes of a machine as it was at the other host one that can be launched
// here: its disks are where they are here.
func merge(there, here *Spec) (Spec, error) {
	s := *there
	if s.ID == "" {
		return *here, nil
	}
	if s.ID != here.ID {
		return s, errs.Invalidf("machine %s came instead of %s", s.ID, here.ID)
	}
	s.Disks = slices.Clone(s.Disks)
	for i := range s.Disks {
		d := &s.Disks[i]
		h := here.disk(d.Name())
		if h == nil {
			return s, errs.Conflictf("disk %s of the machine is not here", d.Name())
		}
		d.ID = h.ID
		d.reach(h)
	}
	return s, s.Validate()
}
