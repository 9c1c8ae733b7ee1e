package network

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/strata-cloud/strata/internal/nodeapi"
	"github.com/strata-cloud/strata/internal/policy"
)

// Seen is a network as those see it who plug containers into it.
type Seen struct {
	ID, Name, ProjectID string
	Domain              string // of names in it
	MTU                 int
	External            bool
	Created             time.Time
	Subnets             []nodeapi.Subnet
}

// Visible lists the networks that containers of the caller's project can be on: its own
// and the shared ones, by name. The administrator's are no others here.
func (s *Service) Visible(_ context.Context, c *policy.Credentials) []Seen {
	var out []Seen
	for _, n := range s.networks.All() {
		if c.ProjectID != n.ProjectID && !s.sharedWith(c.ProjectID, n.ID) {
			continue
		}
		x := (&call{Service: s, members: s.recent()}).nodeNetwork(n)
		out = append(out, Seen{ID: n.ID, Name: n.Name, ProjectID: n.ProjectID, Domain: x.DNSDomain, MTU: x.MTU, External: n.External, Created: n.Created, Subnets: x.Subnets})
	}
	slices.SortFunc(out, func(a, b Seen) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return out
}

// Alias gives a port further names, by which its network's name server finds it.
func (s *Service) Alias(ctx context.Context, port string, names []string) error {
	return s.do(ctx, nil, func(c *call) error {
		p, err := get(c, c.ports, port)
		if err != nil {
			return err
		}
		now := *p
		now.Aliases = names
		return c.port.put(c, p, &now)
	})
}

// Domain is the domain of names in a network; "" when there is no such network.
func (s *Service) Domain(networkID string) string {
	n, err := s.networks.Get(networkID)
	if err != nil {
		return ""
	}
	if d := strings.TrimSuffix(n.DNSDomain, "."); d != "" {
		return d
	}
	return domain
}
