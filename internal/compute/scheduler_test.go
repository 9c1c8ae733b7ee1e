package compute

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strata-cloud/strata/internal/compute/wire"
)

// aggregate makes one with hosts and metadata.
func (c *client) aggregate(name, metadata string, hosts ...string) {
	c.t.Helper()
	a := c.do("admin", "POST", "/os-aggregates", `{"aggregate":{"name":"`+name+`"}}`).want(200)
	n, _ := a.at("aggregate", "id").(float64)
	at := "/os-aggregates/" + wire.Text(n) + "/action"
	for _, h := range hosts {
		c.do("admin", "POST", at, `{"add_host":{"host":"`+h+`"}}`).want(200)
	}
	c.do("admin", "POST", at, `{"set_metadata":{"metadata":`+metadata+`}}`).want(200)
}

func (c *client) specs(flavor, specs string) {
	c.t.Helper()
	c.do("admin", "POST", "/flavors/"+flavor+"/os-extra_specs", `{"extra_specs":`+specs+`}`).want(200)
}

// service changes what an operator wants of a host.
func (c *client) service(action, host, more string) {
	c.t.Helper()
	c.do("admin@2.52", "PUT", "/os-services/"+action, `{"host":"`+host+`","binary":"nova-compute"`+more+`}`).want(200)
}

var all = []string{"node-1", "node-2", "node-3"}

// placement is a case of the scheduler's.
type placementCase struct {
	before func(*client)
	create string   // more fields of each server
	n      int      // of servers, one after another
	on     []string // where they may be; nil: where the first is
	spread bool     // no two on one host
	says   string   // the last one's fault
}

func placementCases() map[string]placementCase {
	return map[string]placementCase{
		"spread":          {n: 3, on: all, spread: true},
		"zone":            {before: func(c *client) { c.aggregate("b", `{"availability_zone":"blue"}`, "node-3") }, create: `,"availability_zone":"blue"`, n: 2, on: all[2:]},
		"default zone":    {before: func(c *client) { c.aggregate("b", `{"availability_zone":"blue"}`, "node-3") }, create: `,"availability_zone":"nova"`, n: 4, on: all[:2]},
		"disabled":        {before: func(c *client) { c.service("disable", "node-1", "") }, n: 4, on: all[1:]},
		"forced down":     {before: func(c *client) { c.service("force-down", "node-2", `,"forced_down":true`) }, n: 4, on: []string{"node-1", "node-3"}},
		"away":            {before: func(c *client) { c.nodes.Connect("node-3", nil) }, n: 4, on: all[:2]},
		"all away":        {before: func(c *client) { c.lose(all...) }, n: 1, says: "placement: (end: 3), ComputeFilter: (start: 3, end: 0)"},
		"full":            {before: func(c *client) { c.free(Resources{VCPU: 1, MemoryMiB: 256, DiskGiB: 9}, "node-1") }, n: 4, on: all},
		"all full":        {before: func(c *client) { c.free(Resources{}, all...) }, n: 1, says: "placement: (end: 0)"},
		"required trait":  {before: func(c *client) { c.trait("node-2", "CUSTOM_FAST"); c.specs("42", `{"trait:CUSTOM_FAST":"required"}`) }, n: 2, on: all[1:2]},
		"forbidden trait": {before: func(c *client) { c.trait("node-2", "CUSTOM_OLD"); c.specs("42", `{"trait:CUSTOM_OLD":"forbidden"}`) }, n: 4, on: []string{"node-1", "node-3"}},
		"aggregate specs": {before: func(c *client) {
			c.aggregate("s", `{"ssd":"true, nvme"}`, "node-1")
			c.specs("42", `{"aggregate_instance_extra_specs:ssd":"nvme"}`)
		}, n: 2, on: all[:1]},
		"aggregate numbers": {before: func(c *client) {
			c.aggregate("s", `{"gen":"7"}`, "node-1")
			c.specs("42", `{"aggregate_instance_extra_specs:gen":">= 5"}`)
		}, n: 2, on: all[:1]},
		"no such aggregate": {before: func(c *client) { c.specs("42", `{"aggregate_instance_extra_specs:ssd":"true"}`) }, n: 1, says: "AggregateInstanceExtraSpecsFilter: (start: 3, end: 0)"},
		"reserved":          {before: func(c *client) { c.aggregate("t", `{"filter_tenant_id":"`+project2+`"}`, "node-1", "node-2") }, n: 2, on: all[2:]},
		"reserved for us":   {before: func(c *client) { c.aggregate("t", `{"filter_tenant_id2":"x,`+project1+`"}`, all...) }, n: 3, on: all},
		"physical network":  {before: func(c *client) { c.nets.reached = map[string]bool{"node-2": true} }, n: 2, on: all[1:2]},
		"no such device":    {before: func(c *client) { c.nets.reached = map[string]bool{} }, n: 1, says: "PhysicalNetworkFilter: (start: 3, end: 0)"},
		"near":              {create: `},"os:scheduler_hints":{"build_near_host_ip":"192.0.2.77","cidr":"/24"`, n: 2, on: all},
		"near nothing":      {create: `},"os:scheduler_hints":{"build_near_host_ip":"198.51.100.1"`, n: 1, says: "SimpleCIDRAffinityFilter: (start: 3, end: 0)"},
		"affinity":          {before: func(c *client) { c.group("affinity", "") }, create: "GROUP", n: 3, on: nil},
		"anti-affinity":     {before: func(c *client) { c.group("anti-affinity", "") }, create: "GROUP", n: 3, on: all, spread: true},
		"too many":          {before: func(c *client) { c.group("anti-affinity", "") }, create: "GROUP", n: 4, on: all, spread: true, says: "ServerGroupFilter: (start: 3, end: 0)"},
		"two per host":      {before: func(c *client) { c.group("anti-affinity", `,"rules":{"max_server_per_host":2}`) }, create: "GROUP", n: 7, on: all, says: "ServerGroupFilter"},
		"soft anti":         {before: func(c *client) { c.group("soft-anti-affinity", "") }, create: "GROUP", n: 4, on: all},
		"soft affinity":     {before: func(c *client) { c.group("soft-affinity", "") }, create: "GROUP", n: 3, on: nil},
	}
}

func TestScheduler(t *testing.T) {
	for name, tc := range placementCases() {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, all...)
			if tc.before != nil {
				tc.before(c)
			}
			tc.check(t, c)
		})
	}
}

func (tc placementCase) check(t *testing.T, c *client) {
	t.Helper()
	create := tc.create
	if create == "GROUP" {
		gid := c.do("member@2.64", "GET", "/os-server-groups", "").want(200).at("server_groups", 0, "id")
		create = fmt.Sprintf(`},"os:scheduler_hints":{"group":%q`, gid)
	}
	var hosts []string
	for n := range tc.n {
		v, err := c.svc.servers.Get(c.server("s", create))
		if err != nil {
			t.Fatal(err)
		}
		if tc.says != "" && n == tc.n-1 {
			if v.VMState != Errored || v.Fault == nil || !strings.Contains(v.Fault.Message, tc.says) || !strings.HasPrefix(v.Fault.Message, "No valid host was found.") {
				t.Fatalf("the last server is %s on %q: %+v", v.VMState, v.Host, v.Fault)
			}
			break
		}
		hosts = append(hosts, v.Host)
		on := tc.on
		if on == nil {
			on = hosts[:1]
		}
		if !slices.Contains(on, v.Host) {
			t.Fatalf("server %d is %s on %q, not on one of %v: %+v", n, v.VMState, v.Host, on, v.Fault)
		}
	}
	slices.Sort(hosts)
	if tc.spread && len(slices.Compact(slices.Clone(hosts))) != len(hosts) {
		t.Errorf("two are on one host: %v", hosts)
	}
}

func (c *client) lose(hosts ...string) {
	for _, h := range hosts {
		c.nodes.Connect(h, nil)
	}
}

func (c *client) free(r Resources, hosts ...string) {
	c.place.mu.Lock()
	defer c.place.mu.Unlock()
	for _, h := range hosts {
		c.place.free[h] = r
	}
}

func (c *client) trait(host, name string) {
	c.place.mu.Lock()
	defer c.place.mu.Unlock()
	c.place.has = map[string][]string{host: {name}}
}

func (c *client) group(policy, more string) {
	c.t.Helper()
	c.do("member@2.64", "POST", "/os-server-groups", `{"server_group":{"name":"g","policy":"`+policy+`"`+more+`}}`).want(200)
}

// Parallel creates take no more than there is, and spread.
func TestParallelCreates(t *testing.T) {
	hosts := []string{"node-1", "node-2", "node-3"}
	c := newClient(t, hosts...)
	f, err := c.svc.flavors.Get("42")
	if err != nil {
		t.Fatal(err)
	}
	c.free(Resources{VCPU: 4, MemoryMiB: 4 * f.RAM, DiskGiB: 100}, hosts...)
	c.do("admin", "PUT", "/os-quota-sets/"+project1, `{"quota_set":{"instances":-1}}`).want(200)
	var group sync.WaitGroup
	for n := range 15 {
		group.Go(func() { c.do("member@2.96", "POST", "/servers", createText(fmt.Sprintf("s%d", n), "")).want(202) })
	}
	group.Wait()
	c.settled()
	on := map[string]int{}
	for _, v := range c.svc.servers.All() {
		on[v.Host]++
	}
	if on["node-1"] != 4 || on["node-2"] != 4 || on["node-3"] != 4 || on[""] != 3 {
		t.Errorf("servers are on %v", on)
	}
	c.clean(t)

	wide := newClient(t, hosts...)
	wide.do("member@2.96", "POST", "/servers", createText("m", `,"min_count":9`)).want(202)
	wide.settled()
	clear(on)
	for _, v := range wide.svc.servers.All() {
		on[v.Host]++
	}
	if on["node-1"] != 3 || on["node-2"] != 3 || on["node-3"] != 3 {
		t.Errorf("nine servers are on %v", on)
	}
}

func TestSpecMatches(t *testing.T) {
	for _, x := range []struct {
		has, want string
		ok        bool
	}{
		{"1", "1", true}, {"1", "2", false}, {"", "", true}, {"8", "= 5", true}, {"4", "= 5", false}, {"5", "== 5.0", true}, {"5", "!= 5", false}, {"5", "<= 5", true}, {"x", ">= 1", false},
		{"b", "s== b", true}, {"b", "s!= b", false}, {"b", "s> a", true}, {"b", "s<= a", false}, {"b", "s< c", true}, {"b", "s>= c", false},
		{"abc", "<in> b", true}, {"abc", "<in> x", false}, {"a b c", "<all-in> a c", true}, {"a b", "<all-in> a c", false}, {"v2", "<or> v1 <or> v2", true}, {"v3", "<or> v1 <or> v2", false},
	} {
		if specMatches(x.has, x.want) != x.ok {
			t.Errorf("%q against %q is not %t", x.has, x.want, x.ok)
		}
	}
}
