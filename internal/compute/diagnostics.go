package compute

import (
	"context"
	"fmt"
	"strconv"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/rest"
)

func (s *Service) insightRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/servers/{id}/diagnostics", Policy: "os_compute_api:os-server-diagnostics", Handle: s.diagnostics},
		{Method: "GET", Path: "/servers/{id}/topology", Policy: "compute:server:topology:index", Min: rest.V(2, 78), Handle: s.topology},
	}
}

// diagnostics asks the node; it is the one that knows.
func (s *Service) diagnostics(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.authorized(r)
	if err != nil {
		return nil, err
	}
	if v.Host == "" {
		return nil, errs.Conflictf("Instance %s is not ready", v.ID)
	}
	conn, err := s.Nodes.Conn(v.Host)
	if err != nil {
		return nil, errs.Conflictf("Instance %s is not ready", v.ID)
	}
	d, err := conn.Diagnostics(ctx, v.ID)
	switch {
	case errs.Is(err, errs.Conflict), errs.Is(err, errs.NotFound):
		return nil, errs.Conflictf("Cannot 'get_diagnostics' instance %s while it is in vm_state %s", v.ID, v.VMState)
	case err != nil:
		return nil, fmt.Errorf("diagnostics of %s: %w", v.ID, err)
	}
	if !r.AtLeast(2, 48) {
		return rest.JSON(200, oldDiagnostics(d)), nil
	}
	return rest.JSON(200, diagnosticsView(d, v.ConfigDrive)), nil
}

// diagnosticsView is the shape of 2.48. Its driver is one of a closed list: a QEMU
// of ours counts as upstream's libvirt, which runs the same.
func diagnosticsView(d *nodeapi.Diagnostics, configDrive bool) map[string]any {
	state := string(d.State)
	switch d.State {
	case nodeapi.PowerStopped:
		state = "shutdown"
	case nodeapi.PowerRunning, nodeapi.PowerPaused, nodeapi.PowerCrashed, nodeapi.PowerSuspended:
	}
	cpus, disks, nics := []any{}, []any{}, []any{}
	for _, c := range d.CPUs {
		cpus = append(cpus, map[string]any{"id": c.ID, "time": c.TimeNS, "utilisation": nil})
	}
	for _, k := range d.Disks {
		disks = append(disks, map[string]any{"read_bytes": k.ReadBytes, "read_requests": k.ReadRequests, "write_bytes": k.WriteBytes, "write_requests": k.WriteRequests, "errors_count": k.Errors})
	}
	for _, n := range d.NICs {
		nics = append(nics, map[string]any{"mac_address": n.MAC, "rx_octets": n.RxBytes, "rx_packets": n.RxPackets, "rx_drop": n.RxDrop, "rx_errors": n.RxErrors, "rx_rate": nil,
			"tx_octets": n.TxBytes, "tx_packets": n.TxPackets, "tx_drop": n.TxDrop, "tx_errors": n.TxErrors, "tx_rate": nil})
	}
	return map[string]any{"state": state, "driver": "libvirt", "hypervisor": "qemu", "hypervisor_os": "linux", "uptime": d.Uptime, "config_drive": configDrive,
		"num_cpus": len(cpus), "num_disks": len(disks), "num_nics": len(nics), "cpu_details": cpus, "disk_details": disks, "nic_details": nics,
		"memory_details": map[string]any{"maximum": d.MemoryMiB, "used": d.UsedMiB}}
}

// oldDiagnostics is what the libvirt driver said before 2.48: one flat object with
// the devices' names in the keys, memory in KiB.
func oldDiagnostics(d *nodeapi.Diagnostics) map[string]any {
	out := map[string]any{"memory": d.MemoryMiB << 10, "memory-actual": d.MemoryMiB << 10, "memory-rss": d.UsedMiB << 10}
	for _, c := range d.CPUs {
		out["cpu"+strconv.Itoa(c.ID)+"_time"] = c.TimeNS
	}
	for i, k := range d.Disks {
		at := guestDisk(i)
		out[at+"_read"], out[at+"_read_req"], out[at+"_write"], out[at+"_write_req"], out[at+"_errors"] = k.ReadBytes, k.ReadRequests, k.WriteBytes, k.WriteRequests, k.Errors
	}
	for i, n := range d.NICs {
		at := "vnet" + strconv.Itoa(i)
		out[at+"_rx"], out[at+"_rx_packets"], out[at+"_rx_drop"], out[at+"_rx_errors"] = n.RxBytes, n.RxPackets, n.RxDrop, n.RxErrors
		out[at+"_tx"], out[at+"_tx_packets"], out[at+"_tx_drop"], out[at+"_tx_errors"] = n.TxBytes, n.TxPackets, n.TxDrop, n.TxErrors
	}
	return out
}

// guestDisk counts as a guest does: vda, ..., vdz, vdaa.
func guestDisk(i int) string {
	if i < 26 {
		return "vd" + string(rune('a'+i))
	}
	return guestDisk(i/26-1) + string(rune('a'+i%26))
}

// topology is that of a server without NUMA nodes of its own, which all are.
func (s *Service) topology(_ context.Context, r *rest.Request) (*rest.Response, error) {
	if _, err := s.authorized(r); err != nil {
		return nil, err
	}
	return rest.JSON(200, map[string]any{"nodes": []any{}, "pagesize_kb": nil}), nil
}
