package system

import (
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"
)

// assertAllocations checks that placement counts the vCPUs of exactly so many servers of one vCPU.
func assertAllocations(t testing.TB, admin clients, servers int) {
	t.Helper()
	used := 0
	all := must[[]resourceproviders.ResourceProvider](t)(func() ([]resourceproviders.ResourceProvider, error) {
		pages, err := resourceproviders.List(admin.placement, nil).AllPages(t.Context())
		if err != nil {
			return nil, err
		}
		return resourceproviders.ExtractResourceProviders(pages)
	}())
	if len(all) == 0 {
		t.Error("placement has no provider")
	}
	for _, p := range all {
		u := must[*resourceproviders.ResourceProviderUsage](t)(resourceproviders.GetUsages(t.Context(), admin.placement, p.UUID).Extract())
		used += u.Usages["VCPU"]
	}
	if used != servers {
		t.Errorf("placement counts %d vCPUs in use, there are %d servers", used, servers)
	}
}

// assertUsage checks that the quota counts exactly so many servers.
func assertUsage(t testing.TB, user clients, servers int) {
	t.Helper()
	l := must[*limits.Limits](t)(limits.Get(t.Context(), user.compute, nil).Extract())
	if l.Absolute.TotalInstancesUsed != servers || l.Absolute.TotalCoresUsed != servers {
		t.Errorf("the quota counts %d servers with %d cores, there are %d", l.Absolute.TotalInstancesUsed, l.Absolute.TotalCoresUsed, servers)
	}
}
