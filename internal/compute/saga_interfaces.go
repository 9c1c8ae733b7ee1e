package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/saga"
)

func (s *Service) registerInterfaces() {
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaPlug, Steps: []saga.Step[job]{
		{Name: "port", Do: s.plugPort, Undo: s.unplugPort},
		{Name: "order", Do: s.orderNICs, Undo: s.plugUnorder},
		{Name: "await", Do: s.deviceAwait},
	}})
	saga.Register(s.Sagas, saga.Definition[job]{Kind: sagaUnplug, Steps: []saga.Step[job]{
		{Name: "order", Do: s.unplugOrder, Undo: s.unplugReorder},
		{Name: "await", Do: s.deviceAwait},
		{Name: "port", Do: s.unplugPort},
	}})
}

func nicOf(j *job) (n NIC, err error) {
	if err = json.Unmarshal(j.Args, &n); err != nil {
		err = fmt.Errorf("interface saga of %s: %w", j.Server, err)
	}
	return n, err
}

func (s *Service) plugPort(ctx context.Context, j *job) error {
	n, err := nicOf(j)
	if err != nil {
		return err
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	_, err = s.Networks.EnsurePort(ctx, s.portSpec(v, n))
	return err
}

// unplugPort ends the port's use, and takes it out of the record. A port that
// never became this server's is left alone.
func (s *Service) unplugPort(ctx context.Context, j *job) error {
	n, err := nicOf(j)
	if err != nil {
		return err
	}
	if s.hasPort(j.Server, n.PortID) {
		if err := s.Networks.ReleasePort(ctx, n.PortID, !n.Ours); err != nil {
			return err
		}
	}
	return s.setNIC(ctx, j.Server, n, false)
}

func (s *Service) hasPort(server, port string) bool {
	return slices.ContainsFunc(s.Networks.Ports(server), func(p Port) bool { return p.ID == port })
}

// setNIC puts the interface into the record, or takes it out.
func (s *Service) setNIC(ctx context.Context, server string, n NIC, has bool) error {
	return s.update(ctx, server, func(v *Server) error {
		switch at := slices.IndexFunc(v.NICs, func(o NIC) bool { return o.PortID == n.PortID }); {
		case at >= 0 && !has:
			v.NICs = slices.Delete(v.NICs, at, at+1)
		case at < 0 && has:
			v.NICs = append(v.NICs, n)
		}
		return nil
	})
}

// nics are the server's interfaces whose ports there are.
func (v *Server) nics(ports map[string]Port) []nodeapi.NIC {
	var out []nodeapi.NIC
	for _, n := range v.NICs {
		if p, ok := ports[n.PortID]; ok {
			out = append(out, nodeapi.NIC{PortID: p.ID, MAC: p.MAC, MTU: p.MTU, Model: v.Image.Properties["hw_vif_model"], Tag: n.Tag})
		}
	}
	return out
}

// orderNICs tells the node which interfaces the server has now, and the guest.
func (s *Service) orderNICs(ctx context.Context, j *job) (err error) {
	j.Gen, err = s.order(ctx, j.Server, func(v *Server, i *nodeapi.Instance) error {
		ports := s.portsOf(v)
		i.NICs, i.Guest.Network = v.nics(ports), s.describeNetwork(v, ports)
		return nil
	})
	return err
}

func (s *Service) plugUnorder(ctx context.Context, j *job) error { return s.settleNIC(ctx, j, false) }

func (s *Service) unplugReorder(ctx context.Context, j *job) error { return s.settleNIC(ctx, j, true) }

// settleNIC goes back to having the interface or not, and takes no for an answer.
func (s *Service) settleNIC(ctx context.Context, j *job, has bool) error {
	n, err := nicOf(j)
	if err != nil {
		return err
	}
	// A port that is not the server's any more cannot come back.
	if err := s.setNIC(ctx, j.Server, n, has && s.hasPort(j.Server, n.PortID)); err != nil {
		return err
	}
	v, err := s.servers.Get(j.Server)
	if err != nil {
		return err
	}
	if err := s.orderNICs(ctx, j); err != nil {
		return err
	}
	if _, err := s.Nodes.Conn(v.Host); err != nil {
		return nil
	}
	if err := s.deviceAwait(ctx, j); err != nil {
		s.Log.Warn("a node did not take a server's interfaces back", "server", v.ID, "err", err)
	}
	return ctx.Err()
}

func (s *Service) unplugOrder(ctx context.Context, j *job) error {
	n, err := nicOf(j)
	if err != nil {
		return err
	}
	if err := s.setNIC(ctx, j.Server, n, false); err != nil {
		return err
	}
	return s.orderNICs(ctx, j)
}
