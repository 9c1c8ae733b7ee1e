package docker

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/docker/docker/api/types/network"
	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/store"
)

// networkConnect puts a container onto a network more, while it runs too.
func (s *Service) networkConnect(w http.ResponseWriter, r *request) error {
	var o network.ConnectOptions
	if err := r.Read(&o); err != nil {
		return err
	}
	c, n, err := s.both(r, o.Container)
	if err != nil {
		return err
	}
	wish, err := readWish(n.Name, o.EndpointConfig)
	if err != nil {
		return err
	}
	if len(c.Ports) == 0 {
		return errs.Conflictf("container %s was made without a network (--network none), and stays so", c.Name)
	}
	if !s.Networks.Reaches(n.ID, c.Node) {
		return errs.Conflictf("network %s does not reach the node that container %s is on", n.Name, c.Name)
	}
	p, err := s.wantedPort(r, wish, n)
	if err != nil {
		return err
	}
	err = s.changePorts(r.Context(), c.ID, func(c *Container) error {
		if slices.ContainsFunc(c.Ports, func(o Port) bool { return o.NetworkID == n.ID }) {
			return errs.Forbiddenf("endpoint with name %s already exists in network %s", c.Name, n.Name)
		}
		p.Device = freeDevice(c.Ports)
		c.Ports = append(slices.Clone(c.Ports), *p)
		return nil
	})
	if err == nil {
		if err = s.replug(r.Context(), c.ID); err != nil {
			err = s.unconnect(r.Context(), c.ID, p.ID, err)
		}
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// unconnect takes back what did not work, and gives the reason.
func (s *Service) unconnect(ctx context.Context, id, port string, why error) error {
	ctx = context.WithoutCancel(ctx)
	err := s.changePorts(ctx, id, func(c *Container) error {
		c.Ports = slices.DeleteFunc(slices.Clone(c.Ports), func(p Port) bool { return p.ID == port })
		return nil
	})
	if err == nil {
		err = s.Networks.ReleasePort(ctx, port)
	}
	if err != nil {
		s.Log.Warn("what is left of a network that a container was not put onto", "container", id, "err", err)
	}
	return why
}

// networkDisconnect takes a container off a network.
func (s *Service) networkDisconnect(w http.ResponseWriter, r *request) error {
	var o network.DisconnectOptions
	if err := r.Read(&o); err != nil {
		return err
	}
	c, n, err := s.both(r, o.Container)
	if err != nil {
		return err
	}
	var gone string
	err = s.changePorts(r.Context(), c.ID, func(c *Container) error {
		i := slices.IndexFunc(c.Ports, func(p Port) bool { return p.NetworkID == n.ID })
		if i < 0 {
			return errs.Forbiddenf("container %s is not connected to network %s", c.Name, n.Name)
		}
		gone = c.Ports[i].ID
		c.Ports = slices.Delete(slices.Clone(c.Ports), i, i+1)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.replug(r.Context(), c.ID); err != nil && !o.Force {
		return err
	}
	if err := s.Networks.ReleasePort(store.Freeing(r.Context()), gone); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// both finds the container and the network of a request.
func (s *Service) both(r *request, container string) (*Container, *Network, error) {
	n, err := findNetwork(s.Networks.Visible(r.Context(), r.who), r.Vars["id"])
	if err != nil {
		return nil, nil, err
	}
	c, err := s.placed(r.who.ProjectID, container)
	if err != nil {
		return nil, nil, err
	}
	return c, n, s.Networks.Usable(r.Context(), r.who, n.ID)
}

func (s *Service) changePorts(ctx context.Context, id string, change func(*Container) error) error {
	_, err := s.containers.Update(ctx, id, func(c *Container) error {
		if c.State != Ready {
			return errs.Conflictf("container %s is %s", c.Name, c.State)
		}
		return change(c)
	})
	return err
}

// replug has the container's node give it the devices of its ports.
func (s *Service) replug(ctx context.Context, id string) error {
	c, err := s.containers.Get(id)
	if err != nil {
		return err
	}
	want := nodeapi.Container{ID: c.ID, Name: c.nodeName(), Replug: true}
	if want.Ports, err = s.plug(ctx, c); err != nil {
		return err
	}
	node, err := s.Nodes.Containers(c.Node)
	if err != nil {
		return errs.New(errs.Unavailable, "the node %s, which the container is on, cannot be reached now: %s", c.Node, err)
	}
	_, err = node.EnsureContainer(context.WithoutCancel(ctx), want)
	return err
}

// freeDevice is the name of a device that a container does not have.
func freeDevice(ports []Port) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Device == name }) {
			return name
		}
	}
}

// wantedPort is a port that is to be made on a network.
func (s *Service) wantedPort(r *request, w wish, n *Network) (*Port, error) {
	p := &Port{ID: uuid.NewString(), NetworkID: n.ID, Network: n.Name, FixedIP: w.fixedIP, Aliases: w.aliases}
	if len(w.groups) == 0 {
		return p, nil
	}
	groups, err := s.Networks.Groups(r.Context(), r.who.ProjectID, w.groups)
	p.Groups = groups
	return p, err
}
