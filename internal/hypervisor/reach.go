package hypervisor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// Kinds of consoles.
const (
	ConsoleVNC    = "vnc"
	ConsoleSerial = "serial"
)

// Console implements Driver.
func (d *QEMU) Console(ctx context.Context, id, kind string) (net.Conn, error) {
	name, ok := map[string]string{ConsoleVNC: vncSocket, ConsoleSerial: serialSocket}[kind]
	if !ok {
		return nil, errs.Invalidf("a machine has no console of the kind %q", kind)
	}
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if !m.running() {
		return nil, errNotRunning(id)
	}
	c, err := dialIn(ctx, m.dir, name)
	if err != nil {
		return nil, fmt.Errorf("reaching the %s console of machine %s: %w", kind, id, err)
	}
	return c, nil
}

// Interrupt implements Driver.
func (d *QEMU) Interrupt(ctx context.Context, id string) error {
	return d.locked(ctx, id, "interrupting", func(m *machine) error {
		if !m.running() {
			return errNotRunning(id)
		}
		return m.command(ctx, "inject-nmi", nil, nil)
	})
}

// Diagnostics implements Driver.
func (d *QEMU) Diagnostics(ctx context.Context, id string) (*nodeapi.Diagnostics, error) {
	m, err := d.find(id)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	running, p, state := m.exited != nil, m.process, m.state
	m.mu.Unlock()
	if !running {
		return nil, errNotRunning(id)
	}
	st, err := m.readState()
	if err != nil {
		return nil, err
	}
	out := &nodeapi.Diagnostics{State: state, MemoryMiB: st.Spec.MemoryMiB, Hypervisor: "QEMU"}
	if out.Uptime, err = p.Uptime(); err != nil {
		return nil, err
	}
	if out.UsedMiB, err = p.ResidentMiB(); err != nil {
		return nil, err
	}
	out.UsedMiB = min(out.UsedMiB, out.MemoryMiB) // QEMU's own is not the guest's
	if out.CPUs, err = m.cpuTimes(ctx, p.PID); err != nil {
		return nil, err
	}
	if out.Disks, err = m.diskCounters(ctx, st.Spec.Disks); err != nil {
		return nil, err
	}
	for _, n := range st.Spec.NICs {
		out.NICs = append(out.NICs, nodeapi.NICDiagnostics{MAC: n.MAC})
	}
	return out, nil
}

// cpuTimes reads how long each virtual processor's thread has run.
func (m *machine) cpuTimes(ctx context.Context, pid int) ([]nodeapi.CPUDiagnostics, error) {
	var cpus []struct {
		Index  int `json:"cpu-index"`
		Thread int `json:"thread-id"`
	}
	if err := m.command(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return nil, err
	}
	var out []nodeapi.CPUDiagnostics
	for _, c := range cpus {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, c.Thread))
		if err != nil {
			return nil, fmt.Errorf("reading a processor's time: %w", err)
		}
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(fields) < 13 {
			return nil, fmt.Errorf("thread %d has a strange stat file", c.Thread)
		}
		var ticks int64
		for _, f := range fields[11:13] { // utime and stime
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("reading a processor's time: %w", err)
			}
			ticks += n
		}
		out = append(out, nodeapi.CPUDiagnostics{ID: c.Index, TimeNS: ticks * tickNS})
	}
	return out, nil
}

// tickNS is a clock tick of /proc, 1/100 s on every Linux.
const tickNS = 1e9 / 100

func (m *machine) diskCounters(ctx context.Context, disks []Disk) ([]nodeapi.DiskDiagnostics, error) {
	var stats []struct {
		Qdev  string `json:"qdev"`
		Stats struct {
			ReadBytes  int64 `json:"rd_bytes"`
			Reads      int64 `json:"rd_operations"`
			WriteBytes int64 `json:"wr_bytes"`
			Writes     int64 `json:"wr_operations"`
			FailedRd   int64 `json:"failed_rd_operations"`
			FailedWr   int64 `json:"failed_wr_operations"`
		} `json:"stats"`
	}
	if err := m.command(ctx, "query-blockstats", nil, &stats); err != nil {
		return nil, err
	}
	out := make([]nodeapi.DiskDiagnostics, len(disks))
	for i := range disks {
		for _, s := range stats {
			if strings.TrimSuffix(s.Qdev, "/virtio-backend") == strings.TrimSuffix(disks[i].backend(), "/virtio-backend") {
				out[i] = nodeapi.DiskDiagnostics{ReadBytes: s.Stats.ReadBytes, ReadRequests: s.Stats.Reads,
					WriteBytes: s.Stats.WriteBytes, WriteRequests: s.Stats.Writes, Errors: s.Stats.FailedRd + s.Stats.FailedWr}
			}
		}
	}
	return out, nil
}
