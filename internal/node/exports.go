package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/blockdev/export"
	localdisk "github.com/strata-cloud/strata/internal/blockdev/local"
	"github.com/strata-cloud/strata/internal/blockdev/volumes"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/hypervisor"
	"github.com/strata-cloud/strata/internal/nodeapi"
)

// ExportControl is the control plane as it says which volumes other hosts use.
type ExportControl interface {
	// Exports streams what this node is to export, as a whole.
	Exports(ctx context.Context) <-chan []nodeapi.Export
	// ReportExports tells what it exports, as a whole.
	ReportExports(ctx context.Context, list []nodeapi.ExportStatus) error
}

// reportAgain is how long a report is kept that could not be sent.
const reportAgain = time.Second

// followExports takes up what the control plane wants exported.
func (s *Storage) followExports(ctx context.Context) {
	for _, id := range s.stranded() {
		s.loop.Add(id)
	}
	for list := range s.Control.Exports(ctx) {
		now := map[string]nodeapi.Export{}
		for _, e := range list {
			now[e.ID] = e
		}
		s.mu.Lock()
		ids := slices.Collect(maps.Keys(now))
		for id := range s.exports {
			ids = append(ids, id)
		}
		s.exports = now
		s.mu.Unlock()
		there, err := s.Exports.List() // also of an earlier agent
		if err != nil {
			s.Log.Error("exports cannot be listed", "err", err)
		}
		for _, id := range append(ids, there...) {
			s.loop.Add(id)
		}
		s.tell() // what an earlier agent reported may be true no more
	}
}

// tell has a report sent.
func (s *Storage) tell() {
	select {
	case s.report <- struct{}{}:
	default:
	}
}

// stranded lists the volumes whose swap a crash cut off.
func (s *Storage) stranded() []string {
	machines, err := s.Machines.List()
	if err != nil {
		s.Log.Error("machines cannot be listed", "err", err)
	}
	var out []string
	for _, m := range machines {
		if disk := s.Machines.Swapping(m); disk != "" {
			out = append(out, disk)
		}
	}
	return out
}

func (s *Storage) wantedExport(id string) (nodeapi.Export, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.exports[id]
	return e, ok
}

// reconcileExport brings one volume's export to what is wanted, and tells.
func (s *Storage) reconcileExport(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, ensureTimeout)
	defer cancel()
	want, ok := s.wantedExport(id)
	var st *nodeapi.ExportStatus
	var err error
	if ok {
		st, err = s.export(ctx, want)
	} else {
		err = s.unexport(ctx, id)
	}
	s.mu.Lock()
	if st != nil {
		s.reports[id] = *st
	} else if err == nil {
		delete(s.reports, id)
	}
	s.mu.Unlock()
	s.tell()
	return err
}

// export has the volume be reached by its clients.
func (s *Storage) export(ctx context.Context, want nodeapi.Export) (*nodeapi.ExportStatus, error) {
	st := &nodeapi.ExportStatus{Volume: want.ID}
	addr, err := s.serve(ctx, want)
	if err != nil {
		st.Fault = err.Error()
		return st, err
	}
	st.Addr = addr
	for _, c := range want.Clients {
		st.Users = append(st.Users, c.User)
	}
	return st, nil
}

func (s *Storage) serve(ctx context.Context, want nodeapi.Export) (string, error) {
	d, err := s.driver(want.VolumeRef)
	if err != nil {
		return "", err
	}
	defer s.busy.Lock(want.ID)()
	users := map[string]export.User{}
	for _, c := range want.Clients {
		users[c.User] = export.User{PSK: c.PSK, Addr: c.Addr}
	}
	open, err := s.open(want.VolumeRef)
	if err != nil {
		return "", err
	}
	if _, already := s.Exports.Reach(want.ID); already && !s.stuck(open) {
		return s.Exports.Serve(ctx, d, want.VolumeRef, s.Addr, users)
	}
	var addr string
	err = s.handOver(ctx, open, func(ctx context.Context) (hypervisor.Disk, error) {
		if _, already := s.Exports.Reach(want.ID); !already {
			if err := s.Exports.End(ctx, want.ID); err != nil { // by a socket
				return hypervisor.Disk{}, err
			}
		}
		var err error
		if addr, err = s.Exports.Serve(ctx, d, want.VolumeRef, s.Addr, users); err != nil {
			return hypervisor.Disk{}, err
		}
		return s.localDisk(want.ID)
	})
	if err != nil {
		return "", err
	}
	return addr, s.dropLinks(ctx, d, want.VolumeRef, open)
}

// stuck tells whether a machine waits for the end of a swap that a crash cut off.
func (s *Storage) stuck(open []machineDisk) bool {
	return slices.ContainsFunc(open, func(m machineDisk) bool { return s.Machines.Swapping(m.machine) == m.disk })
}

// handOver has the machines let go of a volume, and reach it as serve says then.
// Their guests stand still for that long.
func (s *Storage) handOver(ctx context.Context, open []machineDisk, serve func(context.Context) (hypervisor.Disk, error)) error {
	if len(open) == 0 {
		_, err := serve(ctx)
		return err
	}
	return s.Machines.SwapDisk(ctx, open[0].machine, open[0].disk, func(ctx context.Context) (d hypervisor.Disk, err error) {
		err = s.handOver(ctx, open[1:], func(ctx context.Context) (hypervisor.Disk, error) {
			d, err = serve(ctx)
			return d, err
		})
		return d, err
	})
}

// localDisk is how a machine here opens a volume that is served at an address.
func (s *Storage) localDisk(id string) (hypervisor.Disk, error) {
	r, ok := s.Exports.Reach(id)
	if !ok {
		return hypervisor.Disk{}, errs.Conflictf("volume %s is not exported any more", id)
	}
	return remoteDisk(&r)
}

// remoteDisk is how a machine opens a volume at an address.
func remoteDisk(r *nodeapi.Remote) (hypervisor.Disk, error) {
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return hypervisor.Disk{}, errs.Invalidf("%q is not host:port", r.Addr)
	}
	return hypervisor.Disk{NBD: &hypervisor.NBD{Host: host, Port: port, Export: export.Name, User: r.User, PSK: r.PSK}, Format: "raw"}, nil
}

// dropLinks takes from machines what they have opened no more.
func (s *Storage) dropLinks(ctx context.Context, d volumes.Driver, v nodeapi.VolumeRef, open []machineDisk) error {
	var failed error
	for _, m := range open {
		dir, err := s.Machines.Dir(m.machine)
		if err == nil {
			err = errors.Join(d.Unlink(ctx, v, dir), s.Exports.Unlink(v.ID, dir))
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// unexport takes the volume from other hosts. Machines here that have it by the
// export keep it so.
func (s *Storage) unexport(ctx context.Context, id string) error {
	defer s.busy.Lock(id)()
	v, err := s.localVolume(ctx, id)
	if err != nil {
		return err
	}
	if err := s.rescue(ctx, v); err != nil {
		return err
	}
	if _, ok := s.Exports.Reach(id); !ok {
		return nil // by a socket: of machines here alone
	}
	machines, err := s.attached(v)
	if err != nil {
		return err
	}
	if len(machines) == 0 {
		return s.Exports.End(ctx, id)
	}
	return s.Exports.Revoke(ctx, id)
}

// rescue ends swaps that a crash cut off, when nobody wants an export any more.
func (s *Storage) rescue(ctx context.Context, v nodeapi.VolumeRef) error {
	open, err := s.open(v)
	if err != nil || !s.stuck(open) {
		return err
	}
	how := func(context.Context) (hypervisor.Disk, error) { return s.localDisk(v.ID) }
	if _, served := s.Exports.Reach(v.ID); !served {
		how = nil // as before
	}
	for _, m := range open {
		err = errors.Join(err, s.Machines.SwapDisk(ctx, m.machine, m.disk, how))
	}
	return err
}

// sendReports tells the control plane what is exported, again until it has heard.
func (s *Storage) sendReports(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	<-again.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.report:
		case <-again.C:
		}
		s.mu.Lock()
		list := slices.Collect(maps.Values(s.reports))
		s.mu.Unlock()
		slices.SortFunc(list, func(a, b nodeapi.ExportStatus) int { return strings.Compare(a.Volume, b.Volume) })
		if err := s.Control.ReportExports(ctx, list); err != nil && ctx.Err() == nil {
			s.Log.Warn("exports could not be reported", "err", err)
			again.Reset(reportAgain)
		}
	}
}

// GrowAttached implements nodes.Storage.
func (s *Storage) GrowAttached(ctx context.Context, volume string, sizeGiB int) error {
	v := nodeapi.VolumeRef{ID: volume, Driver: localdisk.Name}
	open, err := s.open(v)
	for _, m := range open {
		if err == nil {
			err = m.Resize(ctx, int64(sizeGiB)<<30)
		}
	}
	return err
}
