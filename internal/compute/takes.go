package compute

import (
	"context"

	"github.com/strata-cloud/strata/internal/errs"
	"github.com/strata-cloud/strata/internal/policy"
)

// Takes tells whether a host may get more work: it is alive and nobody has disabled it.
func (s *Service) Takes(host string) bool { return s.pool.Takes(host) }

// FlavorSize is what a flavor, by its id or name, asks for, if the caller may use it.
func (s *Service) FlavorSize(_ context.Context, c *policy.Credentials, ref string) (vcpus, memoryMiB int, err error) {
	f, err := s.flavors.Get(ref)
	if err != nil {
		f, err = s.flavors.Named(ref)
	}
	if err != nil || !f.VisibleTo(c) || f.Disabled && !c.Admin() {
		return 0, 0, errs.NotFoundf("Flavor %s could not be found.", ref)
	}
	return f.VCPUs, f.RAM, nil
}
