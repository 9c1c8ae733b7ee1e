package cluster

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/strata-cloud/strata/internal/errs"
)

// gateOf is the port by which a control plane reaches its cluster's network: the id is a name
// for where it is, so that a repetition finds the port.
func gateOf(c *Cluster) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(strings.Join([]string{c.ID, "gate", c.Member}, "\x00"))).String()
}

// makeGate gives a new cluster's control plane its place in the network.
func (s *Service) makeGate(ctx context.Context, j *job) error {
	c, err := s.clusters.Get(j.Cluster)
	if err != nil {
		return err
	}
	return s.openGate(ctx, c)
}

// openGate has the port made, and then the control plane told. It may be repeated.
func (s *Service) openGate(ctx context.Context, c *Cluster) error {
	id := gateOf(c)
	if c.Gate == id {
		return nil
	}
	if c.Network == nil {
		return errs.New(errs.Internal, "cluster %s has no network", c.ID)
	}
	spec := c.portSpec(id, cut(c.Name+" control plane"), c.Member)
	spec.Gate = true
	if _, err := s.Networks.EnsurePort(ctx, spec); err != nil {
		return err
	}
	_, err := s.clusters.Update(ctx, c.ID, func(now *Cluster) error {
		if now.Status == DeleteInProgress || now.Member != c.Member {
			return errs.Conflictf("cluster %s is not what it was", c.ID)
		}
		now.Gate = id
		return nil
	})
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) { // nobody else will do it
		err = s.dropGate(ctx, c)
	}
	return err
}

// dropGate removes the port. Absent is fine.
func (s *Service) dropGate(ctx context.Context, c *Cluster) error {
	return s.Networks.DropPorts(ctx, c.ID, c.Member, func(id string, _ bool) bool { return id == gateOf(c) })
}

// gateless tells whether a cluster is of a time when control planes had no gates.
func (c *Cluster) gateless() bool {
	return c.Gate == "" && c.Address != "" && c.Network != nil && c.Status != CreateInProgress && c.Status != DeleteInProgress
}

// gateless are all such clusters.
func (s *Service) gateless() (ids []string) {
	for _, c := range s.clusters.All() {
		if c.gateless() {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// regate gives one of them a gate.
func (s *Service) regate(ctx context.Context, id string) error {
	c, err := s.clusters.Get(id)
	if err != nil || !c.gateless() {
		return ignoreAbsent(err)
	}
	return s.openGate(ctx, c)
}
