package compute

import (
	"github.com/strata-cloud/strata/internal/compute/usage"
)

// usageOf is the usage of a server that was launched.
func usageOf(v *Server) (usage.Usage, bool) {
	if v.Launched == nil {
		return usage.Usage{}, false
	}
	u := usage.Usage{ID: v.ID, ProjectID: v.ProjectID, Name: v.Name, Flavor: v.Flavor.Name, VCPUs: v.Flavor.VCPUs, MemoryMiB: v.Flavor.RAM,
		DiskGiB: v.Flavor.Disk + v.Flavor.Ephemeral, State: string(v.VMState), Started: *v.Launched}
	if v.DeletedAt != nil {
		u.Ended, u.State = *v.DeletedAt, "terminated"
	}
	return u, true
}

// liveUsage is the usage of all servers that are not purged.
func (s *Service) liveUsage() []usage.Usage {
	var out []usage.Usage
	for _, v := range s.servers.All() {
		if u, ok := usageOf(v); ok {
			out = append(out, u)
		}
	}
	return out
}
