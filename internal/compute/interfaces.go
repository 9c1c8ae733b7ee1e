package compute

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/rest"
	"github.com/strata-cloud/strata/internal/store"
)

func (s *Service) interfaceRoutes() []rest.Route {
	const at, rule = "/servers/{id}/os-interface", "os_compute_api:os-attach-interfaces:"
	return []rest.Route{
		{Method: "POST", Path: at, Policy: rule + "create", Body: interfaceSchemas(), Handle: s.attachInterface},
		{Method: "DELETE", Path: at + "/{port}", Policy: rule + "delete", Handle: s.detachInterface},
	}
}

// interfaceSchemas follow nova/api/openstack/compute/schemas/attach_interfaces.py.
func interfaceSchemas() []rest.Schema {
	base := `"net_id":` + uuidSchema + `,"port_id":` + uuidSchema + `,"fixed_ips":{"type":"array","minItems":1,"maxItems":1,"items":{"type":"object","properties":{"ip_address":{"type":"string","anyOf":[{"format":"ipv4"},{"format":"ipv6"}]}},"required":["ip_address"],"additionalProperties":false}}`
	wrap := func(lo, hi rest.Version, fields string) rest.Schema {
		return rest.SchemaIn(lo, hi, `{"type":"object","properties":{"interfaceAttachment":{"type":"object","properties":{`+fields+`},"additionalProperties":false}},"additionalProperties":false}`)
	}
	return []rest.Schema{wrap(rest.V(2, 1), rest.V(2, 48), base), wrap(rest.V(2, 49), rest.Version{}, base+`,"tag":`+tagSchema)}
}

// pluggable are the states in which interfaces come and go.
func pluggable() []VMState { return []VMState{Active, Paused, Stopped} }

// attachInterface answers when the port is the server's.
func (s *Service) attachInterface(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	var b struct {
		Attachment struct {
			Network string `json:"net_id"`
			Port    string `json:"port_id"`
			Tag     string `json:"tag"`
			IPs     []struct {
				Address string `json:"ip_address"`
			} `json:"fixed_ips"`
		} `json:"interfaceAttachment"`
	}
	if err := r.Decode(&b); err != nil {
		return nil, err
	}
	in := b.Attachment
	nic := NIC{PortID: in.Port, NetworkID: in.Network, Tag: in.Tag}
	if len(in.IPs) > 0 {
		nic.FixedIP = in.IPs[0].Address
	}
	if err := v.allows("attach_interface", pluggable(), nil); err != nil {
		return nil, err
	}
	if err := s.chooseNIC(ctx, r, v, &nic); err != nil {
		return nil, err
	}
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxUpdate(tx, v.ID, func(v *Server) error {
			if err := v.allows("attach_interface", pluggable(), nil); err != nil {
				return err
			}
			if v.nic(nic.PortID) != nil {
				return errs.Conflictf("Port %s is still in use.", nic.PortID)
			}
			v.NICs = append(v.NICs, nic)
			return nil
		})
		if err != nil {
			return err
		}
		return s.begin(tx, r.ID, r.Creds, sagaPlug, "attach_interface", v, nic)
	})
	if err != nil {
		return nil, err
	}
	return s.plugged(ctx, r, v.ID, nic)
}

// chooseNIC settles what the request left open and refuses what cannot be.
func (s *Service) chooseNIC(ctx context.Context, r *rest.Request, v *Server, n *NIC) error {
	switch {
	case n.PortID != "" && n.NetworkID != "":
		return errs.Invalidf("Must not input both network_id and port_id")
	case n.FixedIP != "" && n.NetworkID == "":
		return errs.Invalidf("Must input network_id when request IP address")
	}
	if n.PortID != "" {
		p, err := s.Networks.Port(ctx, r.Creds, n.PortID)
		if err != nil {
			return errs.NotFoundf("Port id %s could not be found.", n.PortID)
		}
		if p.DeviceID != "" {
			return errs.Conflictf("Port %s is still in use.", n.PortID)
		}
		n.NetworkID = p.NetworkID
		return nil
	}
	if n.NetworkID == "" {
		ids, err := s.Networks.Available(ctx, r.Creds)
		switch {
		case err != nil:
			return err
		case len(ids) == 0:
			return errs.Invalidf("No specific network was requested and none are available for project '%s'.", v.ProjectID)
		case len(ids) > 1:
			return errs.Invalidf("More than one possible network found. Specify network ID(s) to select which one(s) to connect to.")
		}
		n.NetworkID = ids[0]
	}
	if err := s.Networks.Usable(ctx, r.Creds, n.NetworkID); errs.Is(err, errs.NotFound) {
		return errs.NotFoundf("Network %s could not be found.", n.NetworkID)
	} else if err != nil {
		return err
	}
	if n.FixedIP != "" {
		if holder, used := s.Networks.AddressHolder(r.Creds, n.NetworkID, n.FixedIP); used {
			return errs.Conflictf("Fixed IP address %s is already in use on instance %s.", n.FixedIP, holder)
		}
	}
	if s.Networks.FreePorts(v.ProjectID) == 0 {
		return errs.Forbiddenf("Maximum number of ports exceeded")
	}
	n.PortID, n.Ours = uuid.NewString(), true
	return nil
}

// plugWait bounds the wait of a request for its saga.
const plugWait = 30 * time.Second

// plugged shows the interface as soon as the server has the port; upstream waits too.
func (s *Service) plugged(ctx context.Context, r *rest.Request, server string, nic NIC) (*rest.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, plugWait)
	defer cancel()
	changed := s.DB.Notify(ctx)
	for {
		v, err := s.servers.Get(server)
		if err != nil {
			return nil, err
		}
		if v.nic(nic.PortID) == nil {
			return nil, errs.New(errs.Internal, "Failed to attach network adapter device to %s", server)
		}
		for _, p := range s.Networks.Ports(server) {
			if p.ID == nic.PortID {
				return rest.JSON(200, map[string]any{"interfaceAttachment": s.interfaceView(r, v, p)}), nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errs.New(errs.Internal, "Failed to attach network adapter device to %s", server)
		}
	}
}

func (v *Server) nic(port string) *NIC {
	for i := range v.NICs {
		if v.NICs[i].PortID == port {
			return &v.NICs[i]
		}
	}
	return nil
}

func (s *Service) detachInterface(ctx context.Context, r *rest.Request) (*rest.Response, error) {
	v, err := s.changeable(r)
	if err != nil {
		return nil, err
	}
	port := r.Path("port")
	err = s.DB.Txn(ctx, func(tx *store.Tx) error {
		v, err := s.servers.TxGet(tx, v.ID)
		if err != nil {
			return err
		}
		if err := v.allows("detach_interface", pluggable(), nil); err != nil {
			return err
		}
		n := v.nic(port)
		if n == nil {
			return errs.NotFoundf("Port id %s could not be found.", port)
		}
		return s.begin(tx, r.ID, r.Creds, sagaUnplug, "detach_interface", v, *n)
	})
	return rest.Empty(202), err
}
