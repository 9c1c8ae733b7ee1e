package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"

	"github.com/strata-cloud/strata/internal/store"
)

const (
	agg1 = "11111111-0000-4000-8000-00000000000a"
	agg2 = "22222222-0000-4000-8000-00000000000a"
)

// pool makes providers of a small cloud: two hosts with two NUMA nodes each that
// have the CPUs, and a shared disk tied to host one by an aggregate.
func pool(t *testing.T) *Service {
	t.Helper()
	s := service(t)
	inv := func(class string, n int64) map[string]Inventory {
		return map[string]Inventory{class: {Total: n, MinUnit: 1, MaxUnit: n, StepSize: 1, Ratio: 1}}
	}
	list := []*Provider{
		{UUID: a, Name: "one", Root: a, Inventories: inv("MEMORY_MB", 1000), Aggregates: []string{agg1}, Traits: []string{"HW_CPU_X86_VMX"}},
		{UUID: b, Name: "two", Root: b, Inventories: inv("MEMORY_MB", 1000)},
		{UUID: d, Name: "disk", Root: d, Inventories: inv("DISK_GB", 100), Aggregates: []string{agg1}, Traits: []string{sharesTrait, "STORAGE_DISK_SSD"}},
	}
	list[1].Inventories["DISK_GB"] = Inventory{Total: 50, MinUnit: 1, MaxUnit: 50, StepSize: 1, Ratio: 1}
	for i, host := range []string{a, b} {
		for n := range 2 {
			list = append(list, &Provider{UUID: numa(i, n), Name: fmt.Sprintf("numa%d%d", i, n), Parent: host, Root: host, Inventories: inv("VCPU", int64(4*(n+1)))})
		}
	}
	list[3].Traits = []string{"HW_CPU_X86_AVX"}
	err := s.ledger.Do(t.Context(), func(tx *store.Tx) error {
		for _, p := range list {
			if err := s.providers.TxCreate(tx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func numa(host, n int) string { return fmt.Sprintf("eeeeeeee-0000-4000-8000-0000000000%d%d", host, n) }

// short writes an offer as "suffix=provider,... " with the pool's names.
func short(s *Service, o offer) string {
	var out []string
	for suffix, ids := range o.mappings {
		var names []string
		for _, id := range ids {
			p, _ := s.providers.Get(id)
			names = append(names, p.Name)
		}
		slices.Sort(names)
		out = append(out, suffix+"="+strings.Join(names, ","))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestSearch(t *testing.T) {
	s := pool(t)
	want := func(class string, n int64) map[string]int64 { return map[string]int64{class: n} }
	both := map[string]int64{"VCPU": 2, "MEMORY_MB": 100}
	all := map[string]int64{"VCPU": 2, "MEMORY_MB": 100, "DISK_GB": 10}
	for name, tc := range map[string]struct {
		q    question
		want string
	}{
		"spread over the tree":           {question{groups: []group{{"", wish{resources: both}}}}, "=numa00,one; =numa01,one; =numa10,two; =numa11,two"},
		"roots alone before 1.29":        {question{groups: []group{{"", wish{resources: want("MEMORY_MB", 1)}}}}, "=one; =two"},
		"a shared disk or one's own":     {question{groups: []group{{"", wish{resources: all}}}}, "=disk,numa00,one; =disk,numa01,one; =numa10,two; =numa11,two"},
		"trait of any provider used":     {question{groups: []group{{"", wish{resources: both, required: [][]string{{"HW_CPU_X86_AVX"}}}}}}, "=numa00,one"},
		"any of the traits":              {question{groups: []group{{"", wish{resources: both, required: [][]string{{"HW_CPU_X86_AVX", "HW_CPU_X86_VMX"}}}}}}, "=numa00,one; =numa01,one"},
		"forbidden trait":                {question{groups: []group{{"", wish{resources: both, forbidden: []string{"HW_CPU_X86_AVX", "HW_CPU_X86_VMX"}}}}}, "=numa10,two; =numa11,two"},
		"the root's aggregate":           {question{groups: []group{{"", wish{resources: both, memberOf: [][]string{{agg1, agg2}}}}}}, "=numa00,one; =numa01,one"},
		"not in the aggregate":           {question{groups: []group{{"", wish{resources: both, notOf: []string{agg1}}}}}, "=numa10,two; =numa11,two"},
		"in a tree":                      {question{groups: []group{{"", wish{resources: both, inTree: numa(1, 0)}}}}, "=numa10,two; =numa11,two"},
		"in an unknown tree":             {question{groups: []group{{"", wish{resources: both, inTree: c}}}}, ""},
		"trait of the root":              {question{groups: []group{{"", wish{resources: both}}}, root: wish{required: [][]string{{"HW_CPU_X86_VMX"}}}}, "=numa00,one; =numa01,one"},
		"a group from one provider":      {question{groups: []group{{"1", wish{resources: both}}}}, ""},
		"two groups on one provider":     {question{groups: []group{{"1", wish{resources: want("VCPU", 3)}}, {"2", wish{resources: want("VCPU", 3)}}}}, "1=numa00 2=numa01; 1=numa01 2=numa00; 1=numa01 2=numa01; 1=numa10 2=numa11; 1=numa11 2=numa10; 1=numa11 2=numa11"},
		"two groups, isolated":           {question{isolate: true, groups: []group{{"1", wish{resources: want("VCPU", 4)}}, {"2", wish{resources: want("VCPU", 3)}}}}, "1=numa00 2=numa01; 1=numa01 2=numa00; 1=numa10 2=numa11; 1=numa11 2=numa10"},
		"limited":                        {question{limit: 1, groups: []group{{"", wish{resources: both}}}}, "=numa00,one"},
		"same subtree, bare group":       {question{subtrees: [][]string{{"_A", "_B"}}, groups: []group{{"_A", wish{resources: want("VCPU", 5)}}, {"_B", wish{required: [][]string{{"HW_CPU_X86_VMX"}}}}}}, "_A=numa01 _B=one"},
		"same subtree, siblings are not": {question{subtrees: [][]string{{"_A", "_B"}}, groups: []group{{"_A", wish{resources: want("VCPU", 5)}}, {"_B", wish{required: [][]string{{"HW_CPU_X86_AVX"}}}}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.q.nested = !strings.Contains(name, "1.29")
			var got []string
			for _, o := range s.search(&tc.q) {
				got = append(got, short(s, o))
			}
			slices.Sort(got)
			if strings.Join(got, "; ") != tc.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), tc.want)
			}
		})
	}
}

func TestCandidatesAPI(t *testing.T) {
	at := " GET /allocation_candidates?"
	talk(t, serve(t, pool(t)), `
		1.9`+at+`resources=VCPU:1 => 404
		1.10`+at+`resources=MEMORY_MB:1 => 200 {"allocation_requests":[{"allocations":[{"resource_provider":{"uuid":"`+a+`"},"resources":{"MEMORY_MB":1}}]}
		1.12`+at+`resources=MEMORY_MB:1 => 200 {"allocation_requests":[{"allocations":{"`+a+`":{"resources":{"MEMORY_MB":1}}}}
		1.39`+at+`resources=MEMORY_MB:1 => 200 "mappings":{"":["`+a+`"]}
		1.26`+at+`resources=MEMORY_MB:1 => 200 "`+b+`":{"resources":{"MEMORY_MB":{"capacity":1000,"used":0}},"traits":[]}
		1.29`+at+`resources=VCPU:8&limit=1 => 200 "parent_provider_uuid":"`+a+`"
		1.28`+at+`resources=VCPU:8 => 200 {"allocation_requests":[],"provider_summaries":{}}
		1.39`+at+` => 400 placement.query.missing_value
		1.35`+at+` => 400
		1.39`+at+`resources=VCPU => 400 placement.query.bad_value
		1.39`+at+`resources=VCPU:0 => 400 amount
		1.39`+at+`resources=NONE:1 => 400 No such resource class
		1.39`+at+`resources=VCPU:1&required=NONE => 400 No such trait
		1.16`+at+`resources=VCPU:1&required=HW_CPU_X86_VMX => 400
		1.21`+at+`resources=VCPU:1&required=!HW_CPU_X86_VMX => 400
		1.39`+at+`resources=VCPU:1&limit=0 => 400
		1.39`+at+`resources=VCPU:1&colour=red => 400
		1.24`+at+`resources1=VCPU:1 => 400
		1.32`+at+`resources_A=VCPU:1 => 400
		1.33`+at+`resources_A=VCPU:1 => 200
		1.25`+at+`resources1=VCPU:1&resources2=VCPU:1 => 400 group_policy
		1.25`+at+`resources1=VCPU:1&resources2=VCPU:1&group_policy=some => 400
		1.29`+at+`resources1=VCPU:1&resources2=VCPU:1&group_policy=isolate => 200 "VCPU":1
		1.30`+at+`resources=VCPU:1&in_tree=`+a+` => 400
		1.31`+at+`resources=VCPU:1&in_tree=x => 400 uuid
		1.35`+at+`resources=VCPU:1&required1=HW_CPU_X86_VMX => 400 orphaned
		1.36`+at+`resources=VCPU:1&required1=HW_CPU_X86_VMX => 400 same_subtree
		1.36`+at+`resources_A=VCPU:1&same_subtree=_A,_B => 400 Real suffixes
		1.36`+at+`resources_A=VCPU:1&required_B=HW_CPU_X86_VMX&same_subtree=_A,_B&group_policy=none => 200 "_B":["`+a+`"]
		1.35`+at+`resources=VCPU:1&root_required=HW_CPU_X86_VMX,!HW_CPU_X86_SGX => 200 "VCPU":1
		reader@1.39`+at+`resources=VCPU:1 => 403
	`)
}

// TestOffersFit claims every offer in turn: what a search finds can be allocated.
func TestOffersFit(t *testing.T) {
	s := pool(t)
	q := &question{nested: true, groups: []group{{"", wish{resources: map[string]int64{"VCPU": 3, "MEMORY_MB": 300, "DISK_GB": 20}}}, {"1", wish{resources: map[string]int64{"VCPU": 1}}}}}
	n := 0
	for {
		found := s.search(q)
		if len(found) == 0 {
			break
		}
		n++
		err := s.ledger.Do(t.Context(), func(tx *store.Tx) error {
			return s.replace(tx, allotment{consumer: fmt.Sprint("c", n), project: "p", user: "u", allocations: found[0].held})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	balanced(t, s)
	if n != 5 { // memory ends it after three on host one, the disk after two on host two
		t.Errorf("%d claims fitted", n)
	}
}

func TestGophercloud(t *testing.T) {
	c := &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{TokenID: "admin"}, Endpoint: serve(t, service(t)) + "/placement/", Type: "placement", Microversion: "1.29"}
	ctx := t.Context()
	p, err := resourceproviders.Create(ctx, c, resourceproviders.CreateOpts{Name: "host", UUID: a}).Extract()
	if err != nil || p.UUID != a || p.RootProviderUUID != a {
		t.Fatalf("%+v %v", p, err)
	}
	inv, err := resourceproviders.UpdateInventories(ctx, c, a, resourceproviders.UpdateInventoriesOpts{ResourceProviderGeneration: p.Generation,
		Inventories: map[string]resourceproviders.Inventory{"VCPU": {Total: 4, AllocationRatio: 4, MinUnit: 1, MaxUnit: 4, StepSize: 1}}}).Extract()
	if err != nil || inv.Inventories["VCPU"].Total != 4 || inv.ResourceProviderGeneration != 1 {
		t.Fatalf("%+v %v", inv, err)
	}
	traits, err := resourceproviders.UpdateTraits(ctx, c, a, resourceproviders.UpdateTraitsOpts{ResourceProviderGeneration: 1, Traits: []string{"HW_CPU_X86_VMX"}}).Extract()
	if err != nil || len(traits.Traits) != 1 {
		t.Fatalf("%+v %v", traits, err)
	}
	pages, err := resourceproviders.List(c, resourceproviders.ListOpts{Required: "HW_CPU_X86_VMX"}).AllPages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := resourceproviders.ExtractResourceProviders(pages); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if u, err := resourceproviders.GetUsages(ctx, c, a).Extract(); err != nil || u.Usages["VCPU"] != 0 {
		t.Errorf("%+v %v", u, err)
	}
	if err := resourceproviders.Delete(ctx, c, a).ExtractErr(); err != nil {
		t.Error(err)
	}
}

// BenchmarkCandidates chooses the best of 10,000 nodes.
func BenchmarkCandidates(b *testing.B) {
	s := service(b)
	for i := range 10_000 {
		if err := s.EnsureProvider(b.Context(), Node{ID: fmt.Sprint("n", i), Name: fmt.Sprint("host", i), VCPUs: 64, MemoryMiB: 262144, DiskGiB: 4000}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		found, err := s.Candidates(b.Context(), Need{VCPU: 2, MemoryMiB: 4096, DiskGiB: 20}, map[string]int{"n1": 4096})
		if err != nil {
			b.Fatal(err)
		}
		for range found {
			break
		}
	}
}

// BenchmarkClaim claims from and releases to one host, in parallel.
func BenchmarkClaim(b *testing.B) {
	s := service(b)
	if err := s.EnsureProvider(b.Context(), Node{ID: "n", Name: "host", VCPUs: 64, MemoryMiB: 262144, DiskGiB: 4000}); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		id := fmt.Sprintf("%p", pb)
		for pb.Next() {
			if err := s.Claim(b.Context(), id, "n", "p", "u", Need{VCPU: 1, MemoryMiB: 16}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
