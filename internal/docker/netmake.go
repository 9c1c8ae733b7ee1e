package docker

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/strata-cloud/strata/internal/dockerwire"
	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/store"
)

// Made is what is kept of a network that was made by this API, beside the network
// service's record.
type Made struct {
	ID        string            `json:"id"`
	ProjectID string            `json:"project_id"`
	Router    string            `json:"router,omitempty"` // of its own, to the outside
	Driver    string            `json:"driver,omitempty"` // as it was asked for
	Internal  bool              `json:"internal,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
}

func registerMade(db *store.DB) *store.Collection[Made] {
	return store.Register(db, store.Schema[Made]{Service: "docker", Kind: "network", Version: 1, ID: func(m *Made) string { return m.ID }})
}

// NewNetwork is a network that a client asks for.
type NewNetwork struct {
	Name    string
	Subnets []NewSubnet
	Inside  bool
}

// NewSubnet is a subnet of it.
type NewSubnet struct {
	CIDR, Range netip.Prefix
	Gateway     netip.Addr
}

// networkDrivers are those that a network here is as good as.
var networkDrivers = []string{"", "bridge", "overlay", volumeDriver}

// maxLabels bounds the labels of a network, in bytes.
const maxLabels = 16 << 10

func (s *Service) networkCreate(w http.ResponseWriter, r *request) error {
	var o network.CreateRequest
	if err := r.Read(&o); err != nil {
		return err
	}
	want, err := readNetwork(&o)
	if err != nil {
		return err
	}
	for _, rule := range []string{"create_network", "create_subnet"} {
		if err := s.mayElsewhere(r.who, rule); err != nil {
			return err
		}
	}
	if !want.Inside {
		if err := s.mayElsewhere(r.who, "create_router"); err != nil {
			return err
		}
	}
	s.making.Lock() // two clients that ask for one name get one network
	defer s.making.Unlock()
	if n, err := findNetwork(s.Networks.Visible(r.Context(), r.who), o.Name); err == nil && n.Name == o.Name || errs.Is(err, errs.Invalid) {
		return errs.Conflictf("network with name %s already exists", o.Name)
	}
	var id string
	err = s.Networks.Make(r.Context(), r.who, *want, func(tx *store.Tx, network, router string) error {
		id = network
		return s.made.TxCreate(tx, &Made{ID: network, ProjectID: r.who.ProjectID, Router: router, Driver: o.Driver, Internal: o.Internal, Labels: o.Labels, Options: o.Options})
	})
	if err != nil {
		return err
	}
	return dockerwire.Answer(w, http.StatusCreated, network.CreateResponse{ID: id})
}

// readNetwork refuses what a network here has not.
func readNetwork(o *network.CreateRequest) (*NewNetwork, error) {
	size := 0
	for k, v := range o.Labels {
		size += len(k) + len(v)
	}
	switch {
	case !nameRE.MatchString(o.Name):
		return nil, errs.Invalidf("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", o.Name)
	case slices.Contains([]string{"none", "host", "bridge", "default", "container"}, o.Name):
		return nil, errs.Forbiddenf("operation is not permitted on predefined %s network", o.Name)
	case !slices.Contains(networkDrivers, o.Driver):
		return nil, errs.NotFoundf("could not find plugin %s in v1 plugin registry: plugin not found", o.Driver)
	case o.Ingress, o.ConfigOnly, o.ConfigFrom != nil, o.Scope != "" && o.Scope != "local" && o.Scope != "swarm":
		return nil, errs.Invalidf("networks of a swarm and configurations of networks are not there")
	case o.EnableIPv4 != nil && !*o.EnableIPv4:
		return nil, errs.Invalidf("a network without IPv4 is not made here")
	case size > maxLabels:
		return nil, errs.Invalidf("a network's labels have at most %d bytes", maxLabels)
	}
	for k := range o.Options {
		return nil, errs.Invalidf("unknown option %q of a network", k)
	}
	want := &NewNetwork{Name: o.Name, Inside: o.Internal}
	if o.IPAM == nil {
		return want, nil
	}
	if o.IPAM.Driver != "" && o.IPAM.Driver != "default" || len(o.IPAM.Options) > 0 {
		return nil, errs.Invalidf("an address management (IPAM) driver of its own is not there")
	}
	for _, c := range o.IPAM.Config {
		if c.Subnet == "" && c.Gateway == "" && c.IPRange == "" && len(c.AuxAddress) == 0 {
			continue
		}
		sub, err := readSubnet(c)
		if err != nil {
			return nil, err
		}
		want.Subnets = append(want.Subnets, sub)
	}
	return want, nil
}

func readSubnet(c network.IPAMConfig) (out NewSubnet, err error) {
	if out.CIDR, err = netip.ParsePrefix(c.Subnet); err != nil {
		return out, errs.Invalidf("invalid subnet %q: %s", c.Subnet, err)
	}
	if out.CIDR != out.CIDR.Masked() {
		return out, errs.Invalidf("invalid subnet %s: it should be %s", out.CIDR, out.CIDR.Masked())
	}
	if len(c.AuxAddress) > 0 {
		return out, errs.Invalidf("addresses that are kept free (--aux-address) are not there: give an --ip-range")
	}
	if c.IPRange != "" {
		if out.Range, err = netip.ParsePrefix(c.IPRange); err != nil || !out.CIDR.Overlaps(out.Range) || out.Range.Bits() < out.CIDR.Bits() {
			return out, errs.Invalidf("invalid ip-range %q: it is no part of the subnet %s", c.IPRange, out.CIDR)
		}
	}
	if c.Gateway != "" {
		if out.Gateway, err = netip.ParseAddr(c.Gateway); err != nil || !out.CIDR.Contains(out.Gateway) {
			return out, errs.Invalidf("invalid gateway %q: it is not in the subnet %s", c.Gateway, out.CIDR)
		}
	}
	return out, nil
}

// networkRemove removes a network that was made here. Others are removed where they
// were made.
func (s *Service) networkRemove(w http.ResponseWriter, r *request) error {
	n, err := findNetwork(s.Networks.Visible(r.Context(), r.who), r.Vars["id"])
	if err != nil {
		return err
	}
	if err := s.mayElsewhere(r.who, "delete_network"); err != nil {
		return err
	}
	if err := s.dropNetwork(r.Context(), r.who.ProjectID, n); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) dropNetwork(ctx context.Context, project string, n *Network) error {
	m, err := s.made.Get(n.ID)
	if err != nil || m.ProjectID != project {
		return errs.Forbiddenf("network %s was not made with docker: remove it with openstack network delete", n.Name)
	}
	for _, c := range s.of(project) {
		if !slices.ContainsFunc(c.Ports, func(p Port) bool { return p.NetworkID == n.ID }) {
			continue
		}
		if there, err := s.remains(ctx, c); err != nil {
			return err
		} else if there {
			return errs.Conflictf("error while removing network: network %s id %s has active endpoints (container %s)", n.Name, n.ID, c.Name)
		}
	}
	err = s.Networks.Drop(ctx, n.ID, m.Router, func(tx *store.Tx) error { return s.made.TxDelete(tx, n.ID) })
	if errs.Is(err, errs.Conflict) {
		return errs.Conflictf("error while removing network: network %s has active endpoints: %s", n.Name, err)
	}
	return err
}

// networkPrune removes the networks that were made here and that no container is on.
func (s *Service) networkPrune(w http.ResponseWriter, r *request) error {
	f, err := filters.FromJSON(r.Value("filters"))
	if err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := f.Validate(map[string]bool{"label": true, "label!": true, "until": true}); err != nil {
		return errs.Invalidf("%s", err)
	}
	if err := s.mayElsewhere(r.who, "delete_network"); err != nil {
		return err
	}
	before := time.Now()
	for _, u := range f.Get("until") {
		d, err := time.ParseDuration(u)
		if err != nil {
			return errs.Invalidf("invalid value %q for the filter until: it is a duration", u)
		}
		before = before.Add(-d)
	}
	gone := []string{}
	for _, n := range s.Networks.Visible(r.Context(), r.who) {
		m, err := s.made.Get(n.ID)
		if err != nil || m.ProjectID != r.who.ProjectID || n.Created.After(before) || !f.MatchKVList("label", m.Labels) || f.Contains("label!") && f.MatchKVList("label!", m.Labels) {
			continue
		}
		if err := s.dropNetwork(r.Context(), r.who.ProjectID, &n); errs.Is(err, errs.Conflict) {
			continue
		} else if err != nil {
			return err
		}
		gone = append(gone, n.Name)
	}
	return dockerwire.Answer(w, http.StatusOK, map[string]any{"NetworksDeleted": gone})
}

// madeView adds what is kept here of a network.
func (s *Service) madeView(v network.Inspect) network.Inspect {
	m, err := s.made.Get(v.ID)
	if err != nil {
		return v
	}
	v.Internal = m.Internal
	if m.Driver != "" {
		v.Driver = m.Driver
	}
	for k, val := range m.Labels {
		v.Labels[k] = val
	}
	return v
}
