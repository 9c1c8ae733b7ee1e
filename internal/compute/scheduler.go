package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
)

// defaultZone is the zone of every node that no aggregate puts elsewhere.
const defaultZone = "nova"

// chooseHosts lists the hosts that the server may run on, best first: placement's
// candidates without those that an operator disabled, that are gone, or that the
// request excludes.
func (s *Service) chooseHosts(ctx context.Context, v *Server, need Resources) ([]string, error) {
	found, err := s.Placement.Candidates(ctx, need)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range found {
		if v.AskedHost != "" && v.AskedHost != h || !s.serviceUp(h) {
			continue
		}
		out = append(out, h)
	}
	if len(out) == 0 {
		return nil, errs.New(errs.NoCapacity, "No valid host was found. There are not enough hosts available.")
	}
	return out, nil
}

// serviceUp tells whether a host takes new servers.
func (s *Service) serviceUp(host string) bool {
	if st, err := s.services.Get(host); err == nil && (st.Disabled || st.ForcedDown) {
		return false
	}
	_, err := s.Nodes.Conn(host)
	return err == nil
}
